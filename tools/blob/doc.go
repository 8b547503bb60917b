// Package blob is the command that sends files through a room and fetches them:
// sealed before they leave, kept by the servers as they are, and told of in a
// message.
//
//   - command.go: the commands and their flags.
//   - put.go, get.go: files in and out. list.go: what there is in a room, what the
//     servers have of it, and taking it away. shape.go: what --json prints.
package blob
