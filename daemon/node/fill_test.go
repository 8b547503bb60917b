package node

import (
	"testing"

	"github.com/enmanuel/unibus/daemon/broker"
)

func TestShardsFillUp(t *testing.T) {
	const limit = 100 << 20
	for name, tt := range map[string]struct {
		use  broker.StreamUse
		want level
	}{
		"without a limit":      {broker.StreamUse{Bytes: 1 << 50}, roomy},
		"empty":                {broker.StreamUse{MaxBytes: limit}, roomy},
		"just below":           {broker.StreamUse{MaxBytes: limit, Bytes: limit*9/10 - 1}, roomy},
		"nine tenths":          {broker.StreamUse{MaxBytes: limit, Bytes: limit * 9 / 10}, nearly},
		"one message fits":     {broker.StreamUse{MaxBytes: limit, Bytes: limit - broker.MaxPayload}, nearly},
		"no message fits":      {broker.StreamUse{MaxBytes: limit, Bytes: limit - broker.MaxPayload + 1}, full},
		"smaller than message": {broker.StreamUse{MaxBytes: 1}, full},
	} {
		if have := levelOf(tt.use); have != tt.want {
			t.Errorf("%s: level %d, want %d", name, have, tt.want)
		}
	}
}
