package node_test

import (
	"testing"

	"github.com/enmanuel/unibus/daemon/node"
	"github.com/enmanuel/unibus/lib/bus"
)

func FuzzParseAdmin(f *testing.F) {
	key := bus.SignPub{1, 2, 3}.String()
	f.Add(key)
	f.Add("root:" + key)
	f.Add(":")
	f.Fuzz(func(t *testing.T, s string) {
		admin, err := node.ParseAdmin(s)
		if err != nil {
			return
		}
		again, err := node.ParseAdmin(string(admin.Handle) + ":" + admin.SignPub.String())
		if err != nil || again != admin {
			t.Errorf("%q is %+v and then %+v, %v", s, admin, again, err)
		}
	})
}
