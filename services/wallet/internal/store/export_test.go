package store

// HistoryRows is the statement of History.Rows.
const HistoryRows = historyRows

// BalancesAt is the statement of Wallets.BalancesAt.
const BalancesAt = balancesAt
