// Package fairqueue is a queue in which sources take turns, however many of one source wait: whoever floods it waits
// behind themselves. It is not safe for concurrent use.
package fairqueue

import "slices"

// Queue has what waits, by source. The zero one is empty.
type Queue[T comparable] struct {
	waiting map[string][]T // the oldest first; never empty
	order   []string       // the sources in waiting; the first is next
	size    int
}

// Len is how many wait.
func (q *Queue[T]) Len() int { return q.size }

// Push adds one of a source.
func (q *Queue[T]) Push(source string, w T) {
	if q.waiting == nil {
		q.waiting = map[string][]T{}
	}
	if len(q.waiting[source]) == 0 {
		q.order = append(q.order, source)
	}
	q.waiting[source] = append(q.waiting[source], w)
	q.size++
}

// Next returns whose turn it is; false when nothing waits.
func (q *Queue[T]) Next() (w T, ok bool) {
	if len(q.order) == 0 {
		return w, false
	}
	return q.waiting[q.order[0]][0], true
}

// Pop removes Next and moves its source to the end of the line.
func (q *Queue[T]) Pop() {
	source := q.order[0]
	q.Remove(source, q.waiting[source][0])
	if len(q.waiting[source]) > 0 {
		q.order = append(q.order[1:], source)
	}
}

// DropNewest removes the newest of the source with the most, and returns it. Something has to wait.
func (q *Queue[T]) DropNewest() T {
	busiest := q.order[len(q.order)-1]
	for _, s := range q.order {
		if len(q.waiting[s]) > len(q.waiting[busiest]) {
			busiest = s
		}
	}
	last := q.waiting[busiest][len(q.waiting[busiest])-1]
	q.Remove(busiest, last)
	return last
}

// Remove takes one out of the queue; false when it isn't in it.
func (q *Queue[T]) Remove(source string, w T) bool {
	i := slices.Index(q.waiting[source], w)
	if i < 0 {
		return false
	}
	q.size--
	if q.waiting[source] = slices.Delete(q.waiting[source], i, i+1); len(q.waiting[source]) == 0 {
		delete(q.waiting, source)
		q.order = slices.DeleteFunc(q.order, func(s string) bool { return s == source })
	}
	return true
}
