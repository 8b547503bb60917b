package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

// Connect as somebody whom an admin has added. Outside of an example the
// configuration comes from a context file and the identity from its own.
func ExampleDial() {
	ctx := context.Background()
	demo := startDemo(ctx, "alice")
	defer demo.stop()

	c, err := client.Dial(ctx, client.Config{
		Servers:  demo.servers, // such as "tls://n1.example:4222"
		URLs:     demo.urls,    // such as "https://n1.example:8443"
		BusID:    demo.busID,
		Identity: demo.identities["alice"], // identity.Load("alice.id", nil)
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close(ctx)

	fmt.Println("connected:", c.Server() != "")
	// Output: connected: true
}

func ExampleClient_CreateRoom() {
	ctx := context.Background()
	demo := startDemo(ctx, "alice")
	defer demo.stop()
	alice := demo.dial(ctx, "alice")

	room, err := alice.CreateRoom(ctx, "agent.scout.in", client.RoomOptions{})
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(room.Name(), "encrypted:", room.Policy().Encrypted(), "stored:", room.Policy().Persisted())
	// Output: agent.scout.in encrypted: true stored: true
}

func ExampleClient_AddUser() {
	ctx := context.Background()
	demo := startDemo(ctx, "alice")
	defer demo.stop()
	admin, carol := demo.admin, demo.newIdentity()

	user, err := admin.AddUser(ctx, carol.SignPub(), "carol", bus.UserMember)
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(user.Handle, user.Role, user.Status)
	// Output: carol member active
}

func ExampleRoom_Publish() {
	ctx := context.Background()
	demo := startDemo(ctx, "alice")
	defer demo.stop()
	alice := demo.dial(ctx, "alice")
	room := demo.room(ctx, alice, "log")

	receipt, err := room.Publish(ctx, []byte("hello"), client.Header{Key: "content-type", Value: "text/plain"})
	if err != nil {
		log.Fatal(err) // refused, or its outcome is not known: bus.CodeOf(err) tells
	}

	fmt.Println("stored as frame", receipt.Seq, "of epoch", receipt.Epoch)
	// Output: stored as frame 0 of epoch 0
}

// Many messages at once leave in few frames, each encrypted and signed once.
func ExampleRoom_PublishAsync() {
	ctx := context.Background()
	demo := startDemo(ctx, "alice")
	defer demo.stop()
	room := demo.room(ctx, demo.dial(ctx, "alice"), "log")

	for i := range 1000 {
		if _, err := room.PublishAsync(ctx, fmt.Appendf(nil, "line %d", i)); err != nil {
			log.Fatal(err)
		}
	}
	if err := room.Flush(ctx); err != nil {
		log.Fatal(err)
	}

	n := 0
	for _, err := range room.Messages(ctx, client.Stored) {
		if err != nil {
			log.Fatal(err)
		}
		n++
	}
	fmt.Println(n, "stored")
	// Output: 1000 stored
}

func ExampleRoom_Messages() {
	ctx := context.Background()
	demo := startDemo(ctx, "alice")
	defer demo.stop()
	room := demo.room(ctx, demo.dial(ctx, "alice"), "log")
	demo.publish(ctx, room, "one", "two", "three")

	for m, err := range room.Messages(ctx, client.Start) {
		if err != nil {
			// A gap or a frame that failed a check; anything else ends the loop.
			log.Println(err)
			continue
		}
		fmt.Println(string(m.Body))
		if string(m.Body) == "three" {
			break
		}
	}
	// Output:
	// one
	// two
	// three
}

// Invite somebody by handle. Who accepts finds the room by its name, and reads
// on from what the room shares of its history.
func ExampleRoom_Invite() {
	ctx := context.Background()
	demo := startDemo(ctx, "alice", "bob")
	defer demo.stop()
	alice, bob := demo.dial(ctx, "alice"), demo.dial(ctx, "bob")
	room := demo.room(ctx, alice, "team")
	demo.publish(ctx, room, "welcome")

	if err := room.Invite(ctx, "bob", bus.RoleWriter); err != nil {
		log.Fatal(err)
	}
	if _, err := bob.AcceptRoom(ctx, room.ID()); err != nil {
		log.Fatal(err)
	}
	theirs, err := bob.Room(ctx, "team")
	if err != nil {
		log.Fatal(err)
	}

	for m, err := range theirs.Messages(ctx, client.Stored) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("bob reads:", string(m.Body))
	}
	// Output: bob reads: welcome
}

func ExampleRoom_Remove() {
	ctx := context.Background()
	demo := startDemo(ctx, "alice", "bob")
	defer demo.stop()
	alice, bob := demo.dial(ctx, "alice"), demo.dial(ctx, "bob")
	room := demo.room(ctx, alice, "team")
	if err := room.Invite(ctx, "bob", bus.RoleWriter); err != nil {
		log.Fatal(err)
	}
	theirs, err := bob.AcceptRoom(ctx, room.ID())
	if err != nil {
		log.Fatal(err)
	}

	if err := room.Remove(ctx, "bob"); err != nil {
		log.Fatal(err)
	}

	fmt.Println("members:", len(room.Members()))
	if err := theirs.Refresh(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = theirs.Publish(ctx, []byte("still here?"))
	fmt.Println("bob:", bus.CodeOf(err))
	// Output:
	// members: 1
	// bob: not_member
}

// Give a room a new key, as when a machine of a member was lost. Everybody who is
// still a member gets it, and goes on without doing anything.
func ExampleRoom_Rotate() {
	ctx := context.Background()
	demo := startDemo(ctx, "alice", "bob")
	defer demo.stop()
	alice, bob := demo.dial(ctx, "alice"), demo.dial(ctx, "bob")
	room := demo.room(ctx, alice, "team")
	if err := room.Invite(ctx, "bob", bus.RoleWriter); err != nil {
		log.Fatal(err)
	}
	theirs, err := bob.AcceptRoom(ctx, room.ID())
	if err != nil {
		log.Fatal(err)
	}
	demo.publish(ctx, theirs, "under the old key")

	if err := room.Rotate(ctx); err != nil {
		log.Fatal(err)
	}
	demo.publish(ctx, theirs, "under the old or the new key")

	for m, err := range room.Messages(ctx, client.Stored) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(m.Body))
	}
	fmt.Println("epoch", room.Epoch())
	// Output:
	// under the old key
	// under the old or the new key
	// epoch 2
}

// A cursor remembers what was handled, across restarts.
func ExampleRoom_OpenCursor() {
	ctx := context.Background()
	demo := startDemo(ctx, "alice")
	defer demo.stop()
	room := demo.room(ctx, demo.dial(ctx, "alice"), "jobs")
	demo.publish(ctx, room, "first job", "second job")

	cursor, err := room.OpenCursor(ctx, "worker", client.Start)
	if err != nil {
		log.Fatal(err)
	}
	defer cursor.Close()
	for range 2 {
		for m, err := range room.Messages(ctx, cursor) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println("done:", string(m.Body))
			if err := cursor.Ack(m); err != nil {
				log.Fatal(err)
			}
			break // as if the program ended here
		}
	}
	// Output:
	// done: first job
	// done: second job
}

// Ask the members of a room, and answer as one of them. Both work in rooms that
// are stored and in live ones.
func ExampleRoom_Request() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	demo := startDemo(ctx, "alice", "bob")
	defer demo.stop()
	room := demo.room(ctx, demo.dial(ctx, "alice"), "upper")
	theirs := demo.join(ctx, room, "bob")

	serving := make(chan struct{})
	go func() {
		opts := client.WorkOptions{OnReady: func() { close(serving) }}
		if err := theirs.Serve(ctx, opts, func(_ context.Context, m *client.Message) (client.Answer, error) {
			return client.Answer{Body: bytes.ToUpper(m.Body)}, nil
		}); err != nil && !errors.Is(err, bus.ErrClosed) {
			log.Fatal(err)
		}
	}()
	<-serving

	reply, err := room.Request(ctx, []byte("hello"), client.RequestOptions{})
	if err != nil {
		log.Fatal(err) // a *client.NoReplyError, if nobody answered in time
	}

	fmt.Println(string(reply.Body))
	// Output: HELLO
}

// Handle every message of a room at least once, four at a time, across restarts.
func ExampleRoom_Work() {
	ctx, cancel := context.WithCancel(context.Background()) // such as signal.NotifyContext
	defer cancel()
	demo := startDemo(ctx, "alice")
	defer demo.stop()
	room := demo.room(ctx, demo.dial(ctx, "alice"), "jobs")
	demo.publish(ctx, room, "one", "two", "three")

	cursor, err := room.OpenCursor(ctx, "worker", client.Start)
	if err != nil {
		log.Fatal(err)
	}
	defer cursor.Close()
	var done atomic.Int32
	opts := client.WorkOptions{Cursor: cursor, Parallel: 4, OnError: func(err error) { log.Println(err) }}
	err = room.Work(ctx, opts, func(ctx context.Context, m *client.Message) error {
		if done.Add(1) == 3 {
			cancel() // nothing new is taken, and what is at work is finished
		}
		return nil // acknowledged; an error has it handled again
	})
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(done.Load(), "jobs done")
	// Output: 3 jobs done
}
