// Package prices is a price feed for development and tests: HTTP on loopback, in
// the shapes of the DefiLlama coins API and of CoinGecko's API.
//
//	GET /prices/current/{coins}
//	GET /prices/historical/{timestamp}/{coins}
//	GET /chart/{coins}?start={timestamp}&span={points}&period=1h
//	GET /api/v3/simple/price?ids={ids}&vs_currencies={currencies}
//	GET /api/v3/simple/token_price/{platform}?contract_addresses={addresses}&vs_currencies={currencies}
//	GET /api/v3/coins/{id}/market_chart/range?vs_currency={currency}&from={timestamp}&to={timestamp}
//	GET /api/v3/coins/{platform}/contract/{address}/market_chart/range?…
//
// {coins} is a comma-separated list of "chain:0xaddress" or "coingecko:id". As in the DefiLlama API, the answer
// leaves out coins that are unknown or have no price at that time.
//
// Prices are generated. They are a pure function of the symbol and the hour, the same in every run and on every
// machine, from 2020 to the clock's now; within an hour a price does not change. They are computed in integers of
// 1e-8 dollars and printed as exact decimals, never as floats.
//
// Faults makes the feed misbehave, to test its clients.
package prices
