package client

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/enmanuel/unibus/lib/bus"
)

func TestAnswersOfTheStoreAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		data    string
		status  string
		verdict verdict
		code    bus.Code
	}{
		"stored":               {data: `{"stream":"UNIBUS_ROOMS_3","seq":7}`, verdict: ackStored},
		"stored before":        {data: `{"stream":"UNIBUS_ROOMS_3","seq":7,"duplicate":true}`, verdict: ackStored},
		"another stream":       {data: `{"stream":"UNIBUS_ROOMS_4","seq":7}`, verdict: ackRetry, code: bus.CodeMalformed},
		"no place":             {data: `{"stream":"UNIBUS_ROOMS_3"}`, verdict: ackRetry, code: bus.CodeMalformed},
		"garbage":              {data: `ok`, verdict: ackRetry, code: bus.CodeMalformed},
		"nobody":               {status: "503", verdict: ackRetry, code: bus.CodeUnavailable},
		"full":                 {data: `{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}`, verdict: ackRefuse, code: bus.CodeQuota},
		"disk error":           {data: `{"error":{"code":503,"err_code":10077,"description":"input/output error"}}`, verdict: ackRetry, code: bus.CodeUnavailable},
		"account full":         {data: `{"error":{"code":500,"err_code":10047,"description":"insufficient storage resources available"}}`, verdict: ackRefuse, code: bus.CodeQuota},
		"being stored":         {data: `{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"}}`, verdict: ackRetry, code: bus.CodeUnavailable},
		"no leader":            {data: `{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`, verdict: ackRetry, code: bus.CodeUnavailable},
		"too many at once":     {data: `{"error":{"code":429,"err_code":10167,"description":"too many requests"}}`, verdict: ackRetry, code: bus.CodeUnavailable},
		"too large":            {data: `{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}`, verdict: ackRefuse, code: bus.CodeTooLarge},
		"sealed, or otherwise": {data: `{"error":{"code":400,"err_code":10109,"description":"invalid operation on sealed stream"}}`, verdict: ackRefuse, code: bus.CodeRefused},
	} {
		msg := &nats.Msg{Data: []byte(c.data)}
		if c.status != "" {
			msg.Header = nats.Header{"Status": []string{c.status}}
		}
		got := parseAck(msg, 3)
		if got.verdict != c.verdict || bus.CodeOf(got.err) != c.code {
			t.Errorf("%s: verdict %d, %v", name, got.verdict, got.err)
		}
	}
}

func FuzzAck(f *testing.F) {
	f.Add([]byte(`{"stream":"UNIBUS_ROOMS_3","seq":7,"duplicate":true}`))
	f.Add([]byte(`{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}`))
	f.Add([]byte(`{"seq":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a := parseAck(&nats.Msg{Data: data}, 3)
		if (a.verdict == ackStored) != (a.err == nil) || a.verdict == ackStored && a.streamSeq == 0 {
			t.Errorf("%q: %+v", data, a)
		}
	})
}

// A flight that had no answer to one of its attempts may be stored.
func TestOutcomeWithoutAnswerIsUnknown(t *testing.T) {
	refused := bus.Errorf(bus.CodeForbidden, "refused")
	for _, c := range []struct {
		attempts, negatives int
		want                bus.Code
	}{
		{0, 0, bus.CodeForbidden},
		{1, 1, bus.CodeForbidden},
		{3, 3, bus.CodeForbidden},
		{1, 0, bus.CodeUnknownOutcome},
		{3, 2, bus.CodeUnknownOutcome},
	} {
		f := &flight{attempts: c.attempts, negatives: c.negatives}
		if got := bus.CodeOf(f.giveUp(refused)); got != c.want {
			t.Errorf("%d of %d attempts answered: %s", c.negatives, c.attempts, got)
		}
	}
}
