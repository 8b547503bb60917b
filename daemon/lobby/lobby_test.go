package lobby

import (
	"net/netip"
	"slices"
	"testing"
)

// hall is a lobby whose guests have numbers.
type hall struct {
	*Lobby
	out  []int // who had to go, in order
	from []netip.Addr
}

func newHall(size, source int) *hall {
	h := &hall{}
	h.Lobby = New(size, source, func(a netip.Addr) { h.from = append(h.from, a) })
	return h
}

func (h *hall) enter(n int, addr string) *Guest {
	return h.Enter(netip.MustParseAddr(addr), func() { h.out = append(h.out, n) })
}

func TestWhoWaitedLongestMakesRoom(t *testing.T) {
	for name, tt := range map[string]struct {
		size, source int
		addrs        []string
		out          []int
	}{
		"there is room":                    {4, 4, []string{"::1", "::2", "::1"}, nil},
		"among its own address":            {9, 2, []string{"::1", "::2", "::1", "::1", "::1"}, []int{0, 2}},
		"of the address that has most":     {4, 9, []string{"::1", "::2", "::2", "::2", "::3", "::4"}, []int{1, 2}},
		"its own before that of the other": {4, 2, []string{"::1", "::1", "::2", "::2", "::1"}, []int{0}},
		"without a bound":                  {-1, -1, []string{"::1", "::1", "::1"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHall(tt.size, tt.source)
			guests := make([]*Guest, len(tt.addrs))
			for i, a := range tt.addrs {
				guests[i] = h.enter(i, a)
			}
			if !slices.Equal(h.out, tt.out) && len(h.out)+len(tt.out) > 0 || len(h.from) != len(tt.out) {
				t.Errorf("%v had to go, told of %v; want %v", h.out, h.from, tt.out)
			}
			for i, g := range guests {
				if in := g.Admit(); in == slices.Contains(tt.out, i) {
					t.Errorf("guest %d was in: %t", i, in)
				}
				g.Leave()
			}
			if h.Waiting() != 0 || len(h.Lobby.from) != 0 {
				t.Errorf("%d are left of %v", h.Waiting(), h.Lobby.from)
			}
		})
	}
}

func TestMembersAreNeverSentAway(t *testing.T) {
	h := newHall(3, 2)
	member := h.enter(0, "::1")
	if !member.Admit() {
		t.Error("was not in")
	}
	for i := range 100 {
		h.enter(1+i, "::1")
		h.enter(101+i, "::2")
	}
	if slices.Contains(h.out, 0) || h.Waiting() != 3 {
		t.Errorf("%d wait; gone: %v", h.Waiting(), h.out)
	}
}

func TestSourcesAreTheSmallestThatOneMayHave(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:443":             "192.0.2.1",
		"[::ffff:192.0.2.1]:443":    "192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:1":  "2001:db8:1:2::",
		"[2001:db8:1:2:ffff::1]:9":  "2001:db8:1:2::",
		"[2001:db8:1:3:3:4:5:6]:1":  "2001:db8:1:3::",
		"[fe80::1%eth0]:1":          "fe80::",
		"[::1]:80":                  "::1",
		"127.0.0.7:80":              "127.0.0.7",
		"@":                         "invalid IP",
		"":                          "invalid IP",
		"somewhere.example.com:443": "invalid IP",
	} {
		if got := Source(remote).String(); got != want {
			t.Errorf("%q is from %s, want %s", remote, got, want)
		}
	}
}
