package metrics

import (
	"context"
	"time"

	"github.com/enmanuel/unibus/lib/bus"
	"github.com/enmanuel/unibus/lib/store"
)

// Store returns a store that does what s does, and counts and times it.
func (m *Metrics) Store(s store.Store) store.Store { return &timedStore{Store: s, metrics: m} }

type timedStore struct {
	store.Store
	metrics *Metrics
}

// timed is what an operation defers, with the address of its error.
func (s *timedStore) timed(operation string, begun time.Time, err *error) {
	s.metrics.storeDuration.WithLabelValues(operation).Observe(time.Since(begun).Seconds())
	if *err != nil {
		s.metrics.storeErrors.WithLabelValues(operation, codeLabel(bus.CodeOf(*err))).Inc()
	}
}

// Get implements [store.Store].
func (s *timedStore) Get(ctx context.Context, b store.Bucket, key string) (e store.Entry, err error) {
	defer s.timed("get", time.Now(), &err)
	return s.Store.Get(ctx, b, key)
}

// Create implements [store.Store].
func (s *timedStore) Create(ctx context.Context, b store.Bucket, key string, value []byte, ttl time.Duration) (r store.Revision, err error) {
	defer s.timed("create", time.Now(), &err)
	return s.Store.Create(ctx, b, key, value, ttl)
}

// Update implements [store.Store].
func (s *timedStore) Update(ctx context.Context, b store.Bucket, key string, value []byte, last store.Revision) (r store.Revision, err error) {
	defer s.timed("update", time.Now(), &err)
	return s.Store.Update(ctx, b, key, value, last)
}

// Delete implements [store.Store].
func (s *timedStore) Delete(ctx context.Context, b store.Bucket, key string, last store.Revision) (err error) {
	defer s.timed("delete", time.Now(), &err)
	return s.Store.Delete(ctx, b, key, last)
}

// List implements [store.Store].
func (s *timedStore) List(ctx context.Context, b store.Bucket, prefix string) (list []store.Entry, err error) {
	defer s.timed("list", time.Now(), &err)
	return s.Store.List(ctx, b, prefix)
}

// Watch implements [store.Store]. What is timed is to begin, not to follow.
func (s *timedStore) Watch(ctx context.Context, b store.Bucket, prefix string) (w store.Watcher, err error) {
	defer s.timed("watch", time.Now(), &err)
	return s.Store.Watch(ctx, b, prefix)
}
