// Prints the portfolio as it stands, or with the argument due-dates each due date that moved.
import { decoder, readToEnd, topicOf } from './d02.js'

async function portfolio() {
  const decode = decoder()
  const accounts = new Map()
  for await (const message of readToEnd(topicOf('accounts'))) {
    const key = message.key.toString()
    // A tombstone: the account is gone.
    if (message.value === null) accounts.delete(key)
    // Compaction runs now and then, so several versions of an account may be there: the last one holds.
    else accounts.set(key, await decode(message))
  }

  const totals = new Map()
  for (const { currency, balance_amount: balance } of accounts.values()) {
    const total = totals.get(currency) ?? { accounts: 0, balance: 0n }
    total.accounts += 1
    // Null is not known, which is not 0; a report to people should say how many there are.
    total.balance += balance ?? 0n
    totals.set(currency, total)
  }
  for (const [currency, { accounts, balance }] of totals) {
    // Put together by hand: JSON.stringify takes no BigInt.
    console.log(`{"currency": ${JSON.stringify(currency)}, "accounts": ${accounts}, "balance_minor": ${balance}}`)
  }
}

/** Decides by a header, and decodes only what it prints. */
async function dueDates() {
  const decode = decoder()
  for await (const message of readToEnd(topicOf('changes'))) {
    if (!changed(message).includes('due_date')) continue
    const { before, after } = await decode(message)
    // Without `before`, where that would have made the record too large, nobody knows what the day was.
    console.log(JSON.stringify({ public_id: after.public_id, was: before?.due_date ?? null, is_now: after.due_date }))
  }
}

/** The names in d02.changed: with commas between them; none where nothing differs. 0.1 wrote a JSON array. */
function changed({ headers }) {
  const list = headers.find((header) => 'd02.changed' in header)?.['d02.changed'].toString() ?? ''
  return list.startsWith('[') ? JSON.parse(list) : list.split(',')
}

const shows = { '': portfolio, 'due-dates': dueDates }
const show = shows[process.argv.slice(2).join(' ')]
try {
  if (!show) throw new Error(`the argument may be due-dates, not ${process.argv.slice(2)}`)
  await show()
} catch (error) {
  console.error(`error: ${error.message}${error.cause ? `: ${error.cause.message}` : ''}`)
  process.exit(1)
}
