package rpc

// HistoryHours is historyHours.
var HistoryHours = historyHours
