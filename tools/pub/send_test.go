package pub

import (
	"errors"
	"testing"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/cli"
)

func TestTally(t *testing.T) {
	unknown := bus.Errorf(bus.CodeUnknownOutcome, "publish: no answer")
	denied := bus.Errorf(bus.CodeNotMember, "publish: a reader")
	for _, tt := range []struct {
		name     string
		outcomes []error
		text     string
		code     bus.Code
		exit     cli.Exit
	}{
		{"nothing", nil, "0 messages, 0 bytes, 0 acknowledged", "", cli.ExitOK},
		{"all acknowledged", []error{nil, nil}, "2 messages, 20 bytes, 2 acknowledged", "", cli.ExitOK},
		{"all refused for one reason", []error{denied, denied}, "2 messages, 20 bytes, 0 acknowledged, 2 refused", bus.CodeNotMember, cli.ExitDenied},
		{"some refused", []error{nil, denied, denied}, "3 messages, 30 bytes, 1 acknowledged, 2 refused", bus.CodeNotMember, cli.ExitPartial},
		{"one unknown", []error{unknown}, "1 messages, 10 bytes, 0 acknowledged, 1 unknown", bus.CodeUnknownOutcome, cli.ExitPartial},
		{"one of each", []error{unknown, nil, denied}, "3 messages, 30 bytes, 1 acknowledged, 1 refused, 1 unknown", bus.CodeUnknownOutcome, cli.ExitPartial},
		{"an error without a code is a refusal", []error{nil, errors.New("odd")}, "2 messages, 20 bytes, 1 acknowledged, 1 refused", bus.CodeInternal, cli.ExitPartial},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := int64(len(tt.outcomes))
			sum := tally{taken: n, bytes: 10 * n}
			for _, err := range tt.outcomes {
				sum.count(err)
			}
			if have := sum.String(); have != tt.text {
				t.Errorf("says %q, want %q", have, tt.text)
			}
			if have := sum.acknowledged + sum.refused + sum.unknown; have != n {
				t.Errorf("%d outcomes of %d messages", have, n)
			}
			err := sum.err()
			if have := bus.CodeOf(err); have != tt.code {
				t.Errorf("error is %v, want code %q", err, tt.code)
			}
			if have := cli.ExitOf(err); have != tt.exit {
				t.Errorf("exit status %d, want %d", have, tt.exit)
			}
		})
	}
}
