package store_test

import (
	"maps"
	"testing"
	"time"

	"github.com/holiman/uint256"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/store"
)

// Whatever hours are stored in whatever order, also again and with gaps, each is as it was stored last.
func TestEachHourIsAsItWasStoredLast(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	past := store.NewHistory(f.db.DB, store.NewPartitions(f.db.DB, quiet()))
	const hours = 20 * 24
	begin := month("2023-05").AddDate(0, 0, -9) // four frames, of two months
	rapid.Check(t, func(r *rapid.T) {
		for _, table := range []string{"wallet_history", "balance_history"} {
			if _, err := f.db.SQL().ExecContext(t.Context(), "DELETE FROM "+table); err != nil {
				r.Fatal(err)
			}
		}
		stored := map[int64]history.HourBalances{}
		for range rapid.IntRange(1, 8).Draw(r, "saves") {
			var save []history.HourBalances
			for range rapid.IntRange(1, 3).Draw(r, "runs") {
				first, length := rapid.IntRange(0, hours-1).Draw(r, "first"), rapid.IntRange(1, 200).Draw(r, "length")
				held := map[string]uint256.Int{}
				for i := first; i < min(hours, first+length); i++ {
					if rapid.IntRange(0, 9).Draw(r, "change") == 0 || i == first {
						held = map[string]uint256.Int{}
						for _, k := range f.tokens {
							if amount := rapid.Uint64Range(0, 2).Draw(r, "amount"); amount > 0 {
								held[k.ID] = *uint256.NewInt(amount)
							}
						}
					}
					hour := begin.Add(time.Duration(i) * time.Hour).Unix()
					h := history.HourBalances{Chain: 1,
						Block: block.Block{Number: uint64(i), Time: time.Unix(hour, 0)}, Balances: held,
						Record: history.Record{WalletHour: history.WalletHour{Wallet: w.ID, Hour: hour},
							AssetCount: len(held), ReadAt: at(i)}}
					if i%50 == 7 {
						h.Unread = "not readable: T0"
					}
					stored[hour] = h
				}
				for hour := range stored { // in no order, each once
					if i := int((hour - begin.Unix()) / 3600); i >= first && i < first+length {
						save = append(save, stored[hour])
					}
				}
			}
			last := map[int64]history.HourBalances{}
			for _, h := range save {
				last[h.Hour] = stored[h.Hour]
			}
			save = save[:0]
			for _, h := range last {
				save = append(save, h)
			}
			if err := past.SaveBalances(t.Context(), save); err != nil {
				r.Fatal(err)
			}
		}
		checkStored(t, r, f, past, begin, hours, stored)
	})
}

func checkStored(t *testing.T, r *rapid.T, f fixture, past *store.History, begin time.Time, hours int,
	stored map[int64]history.HourBalances) {
	until := begin.Add(time.Duration(hours) * time.Hour)
	records, err := past.Records(t.Context(), f.owner, begin, until)
	if err != nil || len(records) != len(stored) {
		r.Fatalf("%d records of %d hours, %v", len(records), len(stored), err)
	}
	for _, record := range records {
		if want := stored[record.Hour].Record; record.AssetCount != want.AssetCount || record.Unread != want.Unread ||
			!record.ReadAt.Equal(want.ReadAt) {
			r.Fatalf("%+v, want %+v", record, want)
		}
	}
	for _, from := range []int{0, 31, hours / 2} { // also from within a frame
		first := begin.Add(time.Duration(from) * time.Hour)
		got, err := past.Past(t.Context(), f.owner, first, until)
		if err != nil {
			r.Fatal(err)
		}
		var steps *history.Amounts
		for _, w := range got.Wallets {
			steps = w.Steps()
		}
		for hour := first.Unix(); hour < until.Unix() && steps != nil; hour += 3600 {
			want, isStored := stored[hour]
			read, unread := steps.At(hour)
			if read != isStored || read && (unread != want.Unread || !maps.Equal(steps.Held, want.Balances)) {
				r.Fatalf("%s, from %d: read %t %q %v, want %t %q %v", time.Unix(hour, 0).UTC(), from, read, unread,
					steps.Held, isStored, want.Unread, want.Balances)
			}
		}
	}
}
