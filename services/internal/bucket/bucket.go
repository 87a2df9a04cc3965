// Package bucket counts calls in token buckets, of one process and of all replicas.
//
// It promises: of concurrent calls no more are charged than a bucket holds; replicas
// count in Redis, by its clock; a count that was refunded is available at once. Redis
// holds digests of what is counted, and nothing of a bucket that is full.
//
// Limits: a process that counts alone forgets the least recently used of more than
// 200,000 buckets.
//
// Source: the generic cell rate algorithm of ITU-T I.371, virtual scheduling.
package bucket

import "time"

// Bucket is a token bucket: it holds up to PerMinute calls, and is refilled evenly
// over a minute. Kind and Key identify it.
type Bucket struct {
	Kind, Key string
	PerMinute int
}

// RefillInterval is how long it takes to refill one call.
func (b Bucket) RefillInterval() time.Duration { return time.Minute / time.Duration(b.PerMinute) }
