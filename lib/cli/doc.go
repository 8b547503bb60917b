// Package cli is the frame of every unibus program: it reads command lines and
// settings, prints results and errors, and chooses exit statuses, so that all
// tools behave alike and each tool is only about its own matter. It stands on
// urfave/cli v2.
//
// # How to write a command
//
// A tool is a package with one exported function, which returns a new command
// at every call:
//
//	package greet
//
//	// Command returns the command "greet".
//	func Command() *cli.Command {
//		return &cli.Command{
//			Name:      "greet",
//			Usage:     "send a greeting to rooms", // lower case, no full stop
//			ArgsUsage: "ROOM [TEXT...]",
//			Flags: []cli.Flag{
//				&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Value: 1, Usage: "send it `N` times"},
//			},
//			Description: "Paragraphs, wrapped when printed.",
//			UsageText:   "unibus greet lobby hello\nunibus greet lobby --count 3 --json",
//			Action:      cli.Action(greet),
//		}
//	}
//
//	func greet(c *cli.Call) error {
//		name, err := bus.ParseRoomName(c.Arg(0))
//		if err != nil {
//			return cli.BadArg("ROOM", err)
//		}
//		cfg, err := c.Config(cli.NeedServers, cli.NeedIdentity)
//		if err != nil {
//			return err
//		}
//		… work with c.Context, cfg, c.Int("count") …
//		if c.WantsJSON() {
//			return c.JSON(result)
//		}
//		c.Printf("%s\n", result.Text)
//		return nil
//	}
//
// and a main function of its own,
//
//	func main() { os.Exit(cli.Main(greet.Command())) }
//
// beside one line in the table of the dispatcher. Commands with commands below
// them fill Subcommands and leave Action away.
//
// Fields with a meaning of their own here:
//
//   - ArgsUsage declares the arguments, in capitals: "ROOM" is needed, "[FILE]"
//     may be left away, "FILE..." and "[FILE...]" may be repeated at the end. The
//     frame refuses too few and too many. "-" for standard input or output is an
//     argument like any other.
//   - UsageText holds examples.
//   - EnvVars of a flag are read from [Env], never from the process.
//   - Required flags are asked for by the frame.
//   - BashComplete is [Complete] of a function that proposes values for
//     arguments and flags, in every shell; files, contexts and alternatives such
//     as "reader|writer" need none.
//   - SkipFlagParsing hands everything behind the command's name through.
//
// Flags may stand anywhere on the line, before and behind arguments, until
// "--". One dash is for single letters, which may be joined (-qy), two are for
// names. The flags in globals.go belong to every command and cannot be
// declared again: read them through [Call.Config], [Call.WantsJSON],
// [Call.Confirm], [Call.Passphrase] and so on.
//
// # What the frame promises to users
//
// Settings: a flag goes before its UNIBUS_* variable, that before the saved
// context (--context, UNIBUS_CONTEXT, or the selected one), that before the
// default. [Call.Source] tells which it was.
//
// Output: results go to standard output ([Call.Printf], [Call.Table],
// [Call.JSON]), everything else to standard error ([Call.Note], [Call.Warn],
// [Call.Detail], [Call.Logger], [Call.Progress]). With --json each result is one
// object on one line that begins {"v":1; see [JSONVersion]. What peers and
// servers wrote goes through [Printable] first, except where it is the result
// itself and standard output is no terminal. A write that fails ends the
// command; a closed pipe ends it silently.
//
// Errors: a command returns an error and prints none. The frame prints
//
//	error: lower case, what and why
//	hint: the command that fixes it
//
// and with --json, as the last line of standard error instead,
//
//	{"v":1,"error":{"code":"not_found","exit":1,"message":"…","hint":"…"}}
//
// The [bus.Code] of the error decides the exit status and, unless somebody who
// knows better used [WithHint] or, of a file's mode, ended the message in
// "; run: COMMAND", the hint; both are in one table, see [AdviceFor]. Every error has one: where the
// table has none it is "unibus explain CODE". [WithExit] overrules the
// status, [Usagef] and [BadArg] are for wrong calls.
//
// Signals: SIGINT and SIGTERM cancel the context once and kill the second time.
// A command that returns the resulting context.Canceled exits with 128 and the
// signal's number, so 130 after Ctrl-C; one that ends as it should returns nil
// and exits with 0.
//
// # What it does not do
//
// It knows nothing of rooms, servers or keys. Below Main nothing exits, prints
// or reads the environment except through [Env].
package cli
