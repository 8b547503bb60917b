package client_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/client"
)

func TestMessagesArriveBothWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	ra, theirs := w.room(alice, "agent.scout.in", bob)
	rb := theirs[0]
	ina, inb := w.read(ra, client.Now), w.read(rb, client.Now)
	for i, r := range []*client.Room{ra, rb} {
		receipt, err := r.Publish(w.ctx(), fmt.Appendf(nil, "message %d", i), client.Header{Key: "kind", Value: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if receipt.StreamSeq == 0 || receipt.Room != ra.ID() || receipt.Epoch != 1 {
			t.Errorf("receipt %+v", receipt)
		}
	}
	want := []string{"message 0", "message 1"}
	for _, in := range []*inbox{ina, inb, w.read(rb, client.Start)} {
		if diff := cmp.Diff(want, in.bodies(2)); diff != "" {
			t.Error(diff)
		}
	}
	m := inb.msgs[0]
	if m.Sender != alice.ID() || m.Session != alice.Session() || m.Header("kind") != "test" || !m.Last || m.Late {
		t.Errorf("message %+v", m)
	}
}

func TestStoredEndsWithWhatIsStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	r, _ := w.room(alice, "log")
	for n := range 3 {
		got := 0
		for _, err := range r.Messages(w.ctx(), client.Stored) {
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got != n {
			t.Errorf("%d messages, want %d", got, n)
		}
		publish(t, w, r, fmt.Sprint(n))
	}
}

func publish(t *testing.T, w *world, r *client.Room, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if _, err := r.Publish(w.ctx(), []byte(b)); err != nil {
			t.Fatalf("publish %.40q: %v", b, err)
		}
	}
}

func TestLiveRoomIsReadFromNowOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	policy := bus.DefaultPolicy()
	policy.Flags &^= bus.FlagPersist
	r, err := alice.CreateRoom(w.ctx(), "live", client.RoomOptions{Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	rb := w.invite(r, bob)[0]
	in := w.read(rb, client.Now)
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
	}
	publish(t, w, r, want...)
	if diff := cmp.Diff(want, in.bodies(100)); diff != "" {
		t.Error(diff)
	}
	if err := w.read(rb, client.Start).failure(bus.ErrPolicy); err == nil {
		t.Error("a live room was read from the start")
	}
}

// A member that is invited while it is connected reads and writes on the
// connection it has.
func TestInvitedWhileConnected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	r, theirs := w.room(alice, "team", bob)
	inb := w.read(theirs[0], client.Now)
	publish(t, w, r, "before")
	rc := w.invite(r, carol)[0]
	inc := w.read(rc, client.Now)
	publish(t, w, r, "after")
	publish(t, w, rc, "from carol")
	if diff := cmp.Diff([]string{"before", "after", "from carol"}, inb.bodies(3)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"after", "from carol"}, inc.bodies(2)); diff != "" {
		t.Error(diff)
	}
	if got := w.read(rc, client.Start).bodies(3); got[0] != "before" {
		t.Errorf("history is shared, yet carol reads %q", got)
	}
}

func TestNewcomerWithoutHistoryStartsAtItsEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	policy := bus.DefaultPolicy()
	policy.Flags &^= bus.FlagHistory
	r, err := alice.CreateRoom(w.ctx(), "forgetful", client.RoomOptions{Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, w, r, "before")
	rb := w.invite(r, bob)[0]
	publish(t, w, r, "after")
	if got := w.read(rb, client.Start).bodies(1); got[0] != "after" {
		t.Errorf("bob reads %q", got)
	}
	if got := w.read(r, client.Start).bodies(2); got[0] != "before" {
		t.Errorf("alice reads %q", got)
	}
}

func TestRemovedMemberReadsNothingMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	r, theirs := w.room(alice, "team", bob, carol)
	rb, rc := theirs[0], theirs[1]
	inb, inc := w.read(rb, client.Now), w.read(rc, client.Now)
	publish(t, w, rb, "bob was here")
	inb.bodies(1)
	if err := r.Remove(w.ctx(), bob.ID().String()); err != nil {
		t.Fatal(err)
	}
	publish(t, w, r, "without bob")
	if diff := cmp.Diff([]string{"bob was here", "without bob"}, inc.bodies(2)); diff != "" {
		t.Error(diff)
	}
	inb.failure(bus.ErrNotMember)
	inb.wait("end", func() bool { return inb.ended })
	if n := len(inb.msgs); n != 1 {
		t.Errorf("bob read %d messages", n)
	}
	if _, err := rb.Publish(w.ctx(), []byte("still here?")); !errors.Is(err, bus.ErrNotMember) {
		t.Errorf("bob publishes: %v", err)
	}
	if in := w.read(rb, client.Start); in.failure(bus.ErrNotMember) == nil {
		t.Error("bob reads the past")
	}
	// What bob had stored before counts for those who read it later.
	if diff := cmp.Diff([]string{"bob was here", "without bob"}, w.read(rc, client.Start).bodies(2)); diff != "" {
		t.Error(diff)
	}
	recs, err := rb.Log(w.ctx())
	if err != nil || recs[len(recs)-1].Epoch != 3 {
		t.Errorf("bob's log: %d records, %v", len(recs), err)
	}
}

func TestRotateKeepsEverybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "team", bob)
	in := w.read(theirs[0], client.Now)
	for i := range 3 {
		publish(t, w, r, fmt.Sprint("alice ", i))
		if err := r.Rotate(w.ctx()); err != nil {
			t.Fatal(err)
		}
		publish(t, w, theirs[0], fmt.Sprint("bob ", i))
	}
	want := []string{"alice 0", "bob 0", "alice 1", "bob 1", "alice 2", "bob 2"}
	if diff := cmp.Diff(want, in.bodies(6)); diff != "" {
		t.Error(diff)
	}
	if r.Epoch() != 4 || len(r.Members()) != 2 {
		t.Errorf("epoch %d, members %v", r.Epoch(), r.Members())
	}
}

func TestChangesAtOnceAllHappen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	owner := w.user("owner")
	r, _ := w.room(owner, "busy")
	const n = 6
	errs := make(chan error, n)
	for i := range n {
		id := w.addUser(bus.Handle(fmt.Sprintf("user%d", i)))
		c := w.dial(id, nil)
		go func() { errs <- r.Invite(context.Background(), c.ID().String(), bus.RoleAdmin) }()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := len(r.Members()); got != n+1 {
		t.Errorf("%d members", got)
	}
	if r.Epoch() != n {
		t.Errorf("epoch %d", r.Epoch())
	}
}

func TestAsyncPublishesInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "stream", bob)
	in := w.read(theirs[0], client.Now)
	const n = 20_000
	var want []string
	var pending []client.Pending
	body := make([]byte, 100)
	for i := range n {
		body = fmt.Appendf(body[:0], "message %d", i)
		want = append(want, string(body))
		p, err := r.PublishAsync(w.ctx(), body)
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, p)
	}
	if err := r.Flush(w.ctx()); err != nil {
		t.Fatal(err)
	}
	frames := map[bus.Seq]bool{}
	for i, p := range pending {
		if err := p.Err(); err != nil {
			t.Fatal(err)
		}
		receipt := p.Receipt()
		frames[receipt.Seq] = true
		if i > 0 && receipt.Seq < pending[i-1].Receipt().Seq {
			t.Fatalf("message %d went before message %d", i, i-1)
		}
	}
	if len(frames) > n/10 {
		t.Errorf("%d frames for %d messages", len(frames), n)
	}
	if diff := cmp.Diff(want, in.bodies(n)); diff != "" {
		t.Error(diff)
	}
}

func TestLargeRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "large", bob)
	in := w.read(theirs[0], client.Now)
	big := make([]byte, bus.MaxRecordSize)
	if _, err := rand.Read(big); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 40 {
		want = append(want, string(big[i:]))
		if _, err := r.PublishAsync(w.ctx(), big[i:]); err != nil {
			t.Fatal(err)
		}
	}
	for i, got := range in.bodies(len(want)) {
		if got != want[i] {
			t.Fatalf("message %d differs", i)
		}
	}
	if err := r.Flush(w.ctx()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Publish(w.ctx(), append(big, 0)); !errors.Is(err, bus.ErrTooLarge) {
		t.Errorf("one byte too many: %v", err)
	}
	if _, err := r.Publish(w.ctx(), nil, client.Header{Key: "a"}, client.Header{Key: "a"}); !errors.Is(err, bus.ErrMalformed) {
		t.Errorf("one key twice: %v", err)
	}
}

func TestReadersMayNotWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, _ := w.room(alice, "news")
	if err := r.Invite(w.ctx(), bob.ID().String(), bus.RoleReader); err != nil {
		t.Fatal(err)
	}
	rb, err := bob.AcceptRoom(w.ctx(), r.ID())
	if err != nil {
		t.Fatal(err)
	}
	in := w.read(rb, client.Now)
	publish(t, w, r, "news")
	in.bodies(1)
	if _, err := rb.Publish(w.ctx(), []byte("x")); !errors.Is(err, bus.ErrForbidden) {
		t.Errorf("reader publishes: %v", err)
	}
	if err := rb.Rotate(w.ctx()); !errors.Is(err, bus.ErrNotAuthority) {
		t.Errorf("reader rotates: %v", err)
	}
	if err := r.Invite(w.ctx(), bob.ID().String(), bus.RoleWriter); err != nil {
		t.Fatal(err)
	}
	if err := rb.Refresh(w.ctx()); err != nil {
		t.Fatal(err)
	}
	publish(t, w, rb, "now I may")
	in.bodies(2)
}

func TestDemotedMemberKeepsWhatItSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "team", bob)
	publish(t, w, theirs[0], "said")
	if err := r.Invite(w.ctx(), bob.ID().String(), bus.RoleReader); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs[0].Publish(w.ctx(), []byte("more")); !errors.Is(err, bus.ErrForbidden) {
		t.Errorf("reader publishes: %v", err)
	}
	publish(t, w, r, "last")
	if diff := cmp.Diff([]string{"said", "last"}, w.read(theirs[0], client.Start).bodies(2)); diff != "" {
		t.Error(diff)
	}
}

// More rooms are read from the past at once than there are catch-ups, several
// in one shard, one of them by two readers.
func TestManyRoomsFromTheStartAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	const rooms, each = 12, 20
	var inboxes []*inbox
	var mine, theirs []*client.Room
	for i := range rooms {
		r, rs := w.room(alice, bus.RoomName(fmt.Sprint("room", i)), bob)
		mine, theirs = append(mine, r), append(theirs, rs[0])
		for n := range each / 2 {
			publish(t, w, r, fmt.Sprint(n))
		}
	}
	for _, r := range append(theirs, theirs[0]) {
		inboxes = append(inboxes, w.read(r, client.Start))
	}
	var want []string
	for n := range each {
		want = append(want, fmt.Sprint(n))
		if n >= each/2 {
			for _, r := range mine {
				publish(t, w, r, fmt.Sprint(n))
			}
		}
	}
	for i, in := range inboxes {
		if diff := cmp.Diff(want, in.bodies(each)); diff != "" {
			t.Errorf("room %d: %s", i, diff)
		}
	}
}

// A reader that takes its time gets everything, and holds up nobody.
func TestSlowReaderLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	r, theirs := w.room(alice, "busy", bob)
	ctx, cancel := context.WithCancel(w.ctx())
	defer cancel()
	slow := theirs[0].Messages(ctx, client.Now)
	quick := w.read(theirs[0], client.Now)
	const n = 1100
	for i := range n {
		publish(t, w, r, fmt.Sprint(i))
	}
	quick.bodies(n)
	i := 0
	for m, err := range slow {
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Body) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, m.Body)
		}
		if i++; i == n {
			break
		}
	}
	if i != n {
		t.Errorf("read %d of %d", i, n)
	}
}

func TestIteratorIsUsedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	r, _ := w.room(alice, "log")
	seq := r.Messages(w.ctx(), client.Stored)
	for _, err := range seq {
		t.Errorf("first use: %v", err)
	}
	n := 0
	for _, err := range seq {
		if !errors.Is(err, bus.ErrUsage) {
			t.Errorf("second use: %v", err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d errors", n)
	}
}

func TestNothingWorksAfterClose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	r, _ := w.room(alice, "log")
	in := w.read(r, client.Now)
	w.close(alice)
	in.failure(bus.ErrClosed)
	if _, err := r.Publish(w.ctx(), []byte("x")); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("publish: %v", err)
	}
	if _, err := alice.Room(w.ctx(), r.ID().String()); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("room: %v", err)
	}
	if err := w.read(r, client.Now).failure(bus.ErrClosed); err == nil {
		t.Error("read after close")
	}
	if err := alice.Err(); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("err: %v", err)
	}
}
