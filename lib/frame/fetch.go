package frame

import "github.com/enmanuel/unibus/lib/bus"

// FetchQueue keeps the frames that an [Opener] could not open yet because a
// record or a card has to be fetched first, with whatever T the client needs to
// try them again. It holds [bus.FetchQueueFrames] frames and
// [bus.FetchQueueBytes] at most, since anybody can name epochs that do not
// exist. Its zero value is empty. It is not safe for concurrent use.
type FetchQueue[T any] struct {
	items []T
	bytes int
}

// Add puts an item with a frame of size bytes at the end, and reports whether
// there was room for it.
func (q *FetchQueue[T]) Add(item T, size int) bool {
	if len(q.items) >= bus.FetchQueueFrames || size > bus.FetchQueueBytes-q.bytes {
		return false
	}
	q.items = append(q.items, item)
	q.bytes += size
	return true
}

// Len returns how many items wait.
func (q *FetchQueue[T]) Len() int { return len(q.items) }

// Take empties the queue and returns what was in it, in the order it was added.
func (q *FetchQueue[T]) Take() []T {
	items := q.items
	*q = FetchQueue[T]{}
	return items
}
