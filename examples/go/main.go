// Prints the portfolio as it stands, or with the argument due-dates each due date that moved.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/big"
	"os"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	log.SetFlags(0)
	show := portfolio
	if slices.Equal(os.Args[1:], []string{"due-dates"}) {
		show = dueDates
	} else if len(os.Args) > 1 {
		log.Fatalf("error: the argument may be due-dates, not %q", os.Args[1:])
	}
	if err := show(context.Background(), json.NewEncoder(os.Stdout)); err != nil {
		log.Fatalf("error: %v", err)
	}
}

// Account has the fields that are used here.
type Account struct {
	PublicID      string  `avro:"public_id"`
	Currency      *string `avro:"currency"`
	BalanceAmount *int64  `avro:"balance_amount"`
	DueDate       *string `avro:"due_date"`
}

type total struct {
	Currency *string `json:"currency"`
	Accounts int     `json:"accounts"`
	// The sum of many int64 may be none.
	BalanceMinor *big.Int `json:"balance_minor"`
}

func portfolio(ctx context.Context, out *json.Encoder) error {
	values, err := newDecoder[Account]()
	if err != nil {
		return err
	}
	accounts := map[string]Account{}
	err = readToEnd(ctx, topic("accounts"), func(record *kgo.Record) (err error) {
		key := string(record.Key)
		if record.Value == nil {
			// A tombstone: the account is gone.
			delete(accounts, key)
			return nil
		}
		// Compaction runs now and then, so several versions of an account may be there: the last one holds.
		accounts[key], err = values.decode(ctx, record.Value)
		return err
	})
	if err != nil {
		return err
	}

	// By the currency in JSON, where null and "" are two.
	totals := map[string]*total{}
	for _, account := range accounts {
		currency, err := json.Marshal(account.Currency)
		if err != nil {
			return err
		}
		sum, ok := totals[string(currency)]
		if !ok {
			sum = &total{Currency: account.Currency, BalanceMinor: new(big.Int)}
			totals[string(currency)] = sum
		}
		sum.Accounts++
		// Null is not known, which is not 0; a report to people should say how many there are.
		if account.BalanceAmount != nil {
			sum.BalanceMinor.Add(sum.BalanceMinor, big.NewInt(*account.BalanceAmount))
		}
	}
	for _, sum := range totals {
		if err := out.Encode(sum); err != nil {
			return err
		}
	}
	return nil
}

// AccountChange has the fields that are used here.
type AccountChange struct {
	Before *TrackedFields `avro:"before"`
	After  *Account       `avro:"after"`
}

// TrackedFields has the one that is used here.
type TrackedFields struct {
	DueDate *string `avro:"due_date"`
}

type move struct {
	PublicID string  `json:"public_id"`
	Was      *string `json:"was"`
	IsNow    *string `json:"is_now"`
}

// dueDates decides by a header, and decodes only what it prints.
func dueDates(ctx context.Context, out *json.Encoder) error {
	values, err := newDecoder[AccountChange]()
	if err != nil {
		return err
	}
	return readToEnd(ctx, topic("changes"), func(record *kgo.Record) error {
		names, err := changed(record)
		if err != nil || !slices.Contains(names, "due_date") {
			return err
		}
		change, err := values.decode(ctx, record.Value)
		if err != nil {
			return err
		}
		moved := move{PublicID: change.After.PublicID, IsNow: change.After.DueDate}
		// Left out where it would have made the record too large: then nobody knows what the day was.
		if change.Before != nil {
			moved.Was = change.Before.DueDate
		}
		return out.Encode(moved)
	})
}

// changed gives the names in d02.changed: with commas between them; none where nothing differs. 0.1 wrote a JSON array.
func changed(record *kgo.Record) (names []string, err error) {
	for _, header := range record.Headers {
		if header.Key != "d02.changed" {
			continue
		}
		if strings.HasPrefix(string(header.Value), "[") {
			if err := json.Unmarshal(header.Value, &names); err != nil {
				return nil, fmt.Errorf("d02.changed: %w", err)
			}
			return names, nil
		}
		return strings.Split(string(header.Value), ","), nil
	}
	return nil, nil
}
