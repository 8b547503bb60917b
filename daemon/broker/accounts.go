package broker

import (
	"fmt"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
)

// Account names one of the two NATS accounts.
type Account string

// The accounts.
const (
	AccountStore Account = "STORE" // the streams, for the daemon alone
	AccountBus   Account = "BUS"   // the members
)

const (
	// MaxFetch is the longest a fetch may wait for messages. Consumers enforce
	// it, because NATS forgets where an answer of another account belongs when
	// nothing came for responseMemory.
	MaxFetch       = time.Minute
	responseMemory = 2 * time.Minute
)

// accountsConfig describes the accounts in the configuration language of
// nats-server, the one complete interface to them: the Go API cannot limit the
// payload of an account.
func accountsConfig() string {
	return fmt.Sprintf(`
accounts {
  %[1]s {
    jetstream: enabled
    exports: [
      { service: "ub.d.>", accounts: [%[2]s] }
      { service: "$JS.API.CONSUMER.INFO.*.*", accounts: [%[2]s] }
      { service: "$JS.API.CONSUMER.MSG.NEXT.*.*", accounts: [%[2]s], response: stream, threshold: "%[3]s" }
    ]
  }
  %[2]s {
    limits { max_payload: %[4]d }
    imports: [
      { service: { account: %[1]s, subject: "ub.d.>" } }
      { service: { account: %[1]s, subject: "$JS.API.CONSUMER.INFO.*.*" }, to: "%[5]s.CONSUMER.INFO.*.*" }
      { service: { account: %[1]s, subject: "$JS.API.CONSUMER.MSG.NEXT.*.*" }, to: "%[5]s.CONSUMER.MSG.NEXT.*.*" }
    ]
  }
}`, AccountStore, AccountBus, responseMemory, MaxPayload, bus.APIPrefix)
}
