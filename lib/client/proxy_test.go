package client_test

import (
	"net/http"
	"testing"

	"github.com/enmanuel/unibus/lib/internal/hostile"
)

// controlProxy stands between clients and a node's control plane. Each answer
// may be changed.
type controlProxy struct{ *hostile.Control }

func newControlProxy(t *testing.T, target string) *controlProxy {
	return &controlProxy{hostile.NewControl(t, target)}
}

// set has the body of every answer replaced; nil is honest.
func (p *controlProxy) set(lie func(r *http.Request, body []byte) []byte) {
	if lie == nil {
		p.Set(nil)
		return
	}
	p.Set(func(x *hostile.Exchange) { x.Answer = lie(x.Request, x.Answer) })
}

// delivery is a message on its way from the data plane to a client.
type delivery struct {
	subject, sid, reply string
	header              []byte // the block of headers, nil without one
	payload             []byte
}

// sent is a message on its way from a client to the data plane.
type sent struct {
	subject, reply string
	header         []byte
	payload        []byte
}

// dataProxy stands between clients and a node's data plane.
type dataProxy struct{ *hostile.Data }

func newDataProxy(t *testing.T, target string) *dataProxy {
	return &dataProxy{hostile.NewData(t, target)}
}

// set has every message to clients replaced; nil is honest.
func (p *dataProxy) set(lie func(d delivery) []delivery) {
	if lie == nil {
		p.Down(nil)
		return
	}
	p.Down(func(d hostile.Delivery) []hostile.Delivery {
		var out []hostile.Delivery
		for _, d := range lie(delivery{d.Subject, d.SID, d.Reply, d.Header, d.Payload}) {
			out = append(out, hostile.Delivery{Subject: d.subject, SID: d.sid, Reply: d.reply, Header: d.header, Payload: d.payload})
		}
		return out
	})
}

// watch has what clients publish looked at.
func (p *dataProxy) watch(seen func(s sent)) {
	p.Up(func(s hostile.Sent) []hostile.Sent {
		seen(sent{s.Subject, s.Reply, s.Header, s.Payload})
		return []hostile.Sent{s}
	})
}
