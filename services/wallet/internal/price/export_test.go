package price

// Fetch is fetch, without the cache that calls it.
var Fetch = (*Service).fetch
