// Package prices is a price feed for development and tests: HTTP on loopback, in
// the shape of the DefiLlama coins API.
//
//	GET /prices/current/{coins}
//	GET /prices/historical/{timestamp}/{coins}
//	GET /chart/{coins}?start={timestamp}&span={points}&period=1h
//
// {coins} is a comma-separated list of "chain:0xaddress" or "coingecko:id". A coin
// that the feed doesn't know, or has no price for at that time, is absent from the
// answer, as it is there.
//
// Prices are made up. They are a pure function of the symbol and the hour, the same
// in every run and on every machine, from 2020 to the clock's now; between two
// full hours a price doesn't change. They are computed in whole numbers of a
// hundred-millionth of a dollar and printed as exact decimals, never as floats.
//
// Faults makes the feed misbehave, for testing what reads it.
package prices
