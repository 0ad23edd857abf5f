#!/usr/bin/env python3
"""The rules of docs/delivery.md as a randomized model checker: rules only, nothing of the program. Standard library, one core.

  protocol.py run    [--first N] [--seeds N] [--secs S] [--without a,b] [--mutate m]   plays seeds, counts broken promises
  protocol.py show   --seed N [the same options]     one seed, shrunk to a short trace where it breaks a promise
  protocol.py matrix [--secs S]                      each fix left out alone, each mutation put in alone: what catches it

FIXES are rules that an earlier wording of the text lacked; leaving one out is the earlier wording. MUTATIONS break rules that were
right from the beginning. Times are milliseconds of the model. Everything random is one pick; a step is an event with its picks.
docs/model/README.md says what is modelled and what is not, and how to try a change of a rule."""

import argparse
import dataclasses
import random
import sys
import time
from typing import NamedTuple, Optional

BOOT = 1000
"""The time at which every play begins."""

MASK = (1 << 64) - 1

FIXES = {
    "own": "a cursor record that is read back means that a batch landed only if it has our own instance and epoch",
    "until": "`settled` is bounded by the `until` of the sweep itself, not by the `read` of the moment at which it ends",
    "datereq": "the clock of an answer is its `Date` less the time that the request took",
    "keepdate": "the clock of a walk is that of its first answer, also when it goes on as a fresh walk after a dead cursor",
    "hold": "`settled` does not pass the `updated_at` of a row that was left for the next sweep",
    "regtick": "what was asked for before a regression or a tombstone cannot overwrite what was written after it",
    "regonce": "what reconciliation writes as regressed may be a version that was written before: promise Once names it",
    "back_again": "content that is the same counts as received anew: a page from in between cannot overwrite it",
    "closed": "polls go on from a place only if its time lies before the clock of the walk: no row that is on time enters it any more",
    "earlier": "the clock of an answer is the earlier one of its `Date` and our own",
    "lowered": "`settled` goes back to a late window before the clock of an answer that says that `read` was ahead",
    "proof": "a sweep moves `settled` only if it began at or below it: it may have gone back meanwhile",
    "resume_held": "within the time at which a walk was resumed, a page that counts shows an account that is not held at that time or later",
    "backlog_ahead": "the range of a backlog has no cursor where live has read up to its clock or beyond: it begins where `read` would",
    "backlog_incl": "what was not settled becomes a range to `read` inclusive: live, from its place, did not read all of that time",
    "backlog_hold": "`settled` does not pass a row that the live walk left before the rest of it became a range",
    "back_to": "what is taken back with a released lender is read on from where the reader was before the release",
    "range_left": "a row that a range leaves undecided below `settled` takes it back",
}

MUTATIONS = {
    "sweep_from_now": "a sweep begins a late window before now, even if `settled` lies further back",
    "read_unbounded": "`read` follows rows that are dated ahead, beyond the clock of the walk",
    "decide_ahead": "the index takes a batch as written before its commit is known",
    "split_until": "a split changes the bounds that the running range's cursor belongs to",
    "no_ticks": "other content at an equal `updated_at` is written, whenever its page was asked for",
    "settled_t0": "`settled` begins at T0 instead of a late window before it",
    "dead_excl": "a fresh walk after a dead cursor begins behind the highest row, without its equals",
    "no_tombtick": "a page that was asked for before a tombstone brings the account back",
    "rc_one_walk": "reconcile deletes what one full walk did not show",
    "slow_go_on": "a commit that was slow and succeeded is trusted: no reopen",
    "drop_kept": "the pages of a batch that did not land are dropped instead of decided again",
    "no_fence": "a producer that was fenced can still commit",
    "restore_only": "what was restored before the fence is not read on behind it",
    "claim_again": "a claim that did not land is made again of the record that was found at first, whatever came since",
    "settled_early": "`settled` moves with every page of a sweep",
    "no_continue_check": "a page is taken though it does not go on behind the page before it",
    "lost_keeps": "what was held of a lender is kept though it was lost, not released",
    "release_doubtful": "a release whose outcome is not known is taken for one",
    "split_gap": "the new range of a split begins a millisecond too late",
    "sweep_excl": "a sweep ends before `read`, though polls go on from a place within its time",
    "early_settles": "an early sweep moves `settled`, wherever it began",
    "undue": "a sweep moves `settled` to its `until`, though not all of that is due",
    "place_knows_all": "a poll takes the rows that came behind its place before for a repeated page",
    "resume_any": "after a restart, any page that does not go back in time goes on behind a saved cursor",
    "backlog_clock": "`settled` moves to a late window before the moment at which a backlog is found, not before its walk",
    "backlog_late": "`read` becomes the clock at the commit: the walk may have gone on before that",
    "backlog_until": "the clock becomes the bound of the range, whose cursor belongs to another one",
    "backlog_lost": "`read` becomes the clock, and the rest of the walk no range",
    "backlog_behind": "the range of a backlog begins behind the highest row, without the cursor",
    "backlog_unsettled": "`settled` moves with a backlog, and what was not settled becomes no range",
    "backlog_again": "`settled` moves with a backlog though a range is left that ends beyond it, which read part of that too early",
}

EVENTS = (
    "upd upd upd late late late ahead back flip flip del ins reap tick tick tick tick big send send send send send send serve serve serve "
    "serve serve recv recv recv recv recv commit commit commit commit commit live sweep sweep rc split crash boot boot2 up up up "
    "up land dead dup pump pump pump pump pump pump stall bulk early clock revoke lost follow follow"
).split()
"""What may happen, as often as it should. Upstream: upd, late (visible later than dated), ahead (dated ahead), back (updated_at goes
back), flip (other content, same updated_at), bulk (all rows get one updated_at), del, ins, reap (a deleted row is there again), tick and
big (time passes). Faults: dead (the next cursor is dead), dup (a page comes twice), stall (one kind of walk gets slow answers), clock (the
`Date` or our own clock goes wrong or right), land (an open transaction is committed after all), crash, boot, boot2 (a second instance). The
group: revoke (an instance is asked for its lender), lost (it is no member any more), follow (who does not run the lender, or does, reads
on what was committed). The source: send, serve, recv (a request, its evaluation upstream, its answer), commit, live, sweep, early (an early sweep), rc (reconcile),
split, up and pump (several steps of one instance)."""

FOCUS = {
    "until": "late upd sweep",
    "datereq": "stall tick big upd late sweep live",
    "keepdate": "ahead upd dead",
    "earlier": "clock upd big late",
    "regtick": "ahead back rc",
    "regonce": "back upd rc",
    "rc_one_walk": "back rc",
    "settled_early": "late upd big late upd tick pump pump pump pump pump pump crash",
    "split_gap": "split split split",
    "no_ticks": "flip upd rc stall",
    "dead_excl": "upd dead",
    "no_continue_check": "dup bulk flip",
    "sweep_excl": "bulk late late",
    "undue": "late late upd",
    "place_knows_all": "bulk",
    "resume_any": "bulk dup crash flip",
    "back_to": "boot2 revoke revoke follow follow",
    "lost_keeps": "boot2 lost lost follow follow",
    "release_doubtful": "boot2 revoke revoke",
    "backlog_late": "big bulk upd big",
    "backlog_until": "bulk big crash",
    "backlog_lost": "upd big bulk",
    "backlog_behind": "bulk big",
    "backlog_unsettled": "late late big upd",
}
"""Events that `matrix` favours, for rules that chance alone would try too seldom."""


class Broken(Exception):
    """A promise was broken; the text is its name."""


class PlainTuple:
    """Prints a named tuple as a tuple: a trace has many of them in a line."""

    def __repr__(self):
        return tuple.__repr__(self)


class Row(NamedTuple):
    """A version of an account, as upstream shows it."""

    key: int
    updated_at: int
    content: int
    serial: int
    """Numbers every change upstream: what tells a version from another one with equal time and content."""

    __repr__ = PlainTuple.__repr__

    @property
    def place(self):
        """Where it stands in the order of paging."""
        return (self.updated_at, self.key)


class Held(NamedTuple):
    """The version of an account that the index holds."""

    key: int
    updated_at: int
    content: int
    serial: int
    received: int
    """The tick at which its page was received."""
    regressed: int
    """The tick at which a version was received for which `updated_at` went back; 0: none since the start."""

    __repr__ = PlainTuple.__repr__


class Cursor(NamedTuple):
    """Upstream's token: the place behind which a page begins, and the bounds that it belongs to."""

    place: tuple
    since: Optional[int]
    until: Optional[int]

    __repr__ = PlainTuple.__repr__


class RangeEntry(NamedTuple):
    """One range in the cursor record (docs/records.md, "cursor")."""

    since: Optional[int]
    until: Optional[int]
    stop: int
    cursor: Optional[Cursor]
    highest: Optional[int]
    last: Optional[tuple] = None
    """Time and key of the row before the cursor."""

    __repr__ = PlainTuple.__repr__


class Place(NamedTuple):
    """Where the next poll goes on: the cursor that led to a last page, and the bound that it belongs to."""

    since: int
    cursor: Cursor
    last: tuple
    """Time and key of the row before it."""
    following: Optional[tuple]
    """And of the first row behind it: a page that holds it comes from no other place."""

    __repr__ = PlainTuple.__repr__


@dataclasses.dataclass
class CursorRecord:
    """The record that each transaction writes beside its rows."""

    instance: Optional[str] = None
    epoch: int = 0
    sequence: int = 0
    t0: Optional[int] = None
    read: Optional[int] = None
    settled: Optional[int] = None
    place: Optional[Place] = None
    ranges: tuple = ()
    checksum: int = 0

    @property
    def order(self):
        return (self.epoch, self.sequence)


class Transaction(NamedTuple):
    """What is committed at once: (key, row or None, verdict) of each record, and the cursor record."""

    records: list
    cursor: Optional[CursorRecord]


@dataclasses.dataclass
class Page:
    """A page on its way from the reader to the owner."""

    walk: "Walk"
    rows: list
    next_cursor: Optional[Cursor]
    requested: int
    received: int
    is_last: bool
    highest: Optional[int]
    last: Optional[tuple]
    since: Optional[int]
    until: Optional[int]
    place: Optional[Place]
    """Where the request for it stood."""
    known: frozenset
    """The rows of that time which came before."""
    clock: int
    date: int
    """The clock when it arrived: not less the time that the request took."""
    rest: Optional["Walk"]
    """The range that what is behind this page becomes, if live is too far behind."""


@dataclasses.dataclass
class Attempt:
    """A transaction that was sent, until it is known whether it landed."""

    pages: list
    record: CursorRecord
    written: dict
    """What the index will hold of the keys that it touches; None: nothing any more."""
    wrote: set
    alive: set
    """The range walks that are left."""
    new_ranges: list
    split: Optional[tuple]
    is_claim: bool
    deleted: tuple
    is_begin: bool
    is_release: bool


@dataclasses.dataclass
class Reconciling:
    """A reconciliation under way (delivery.md, "Reading", Reconcile)."""

    begun_tick: int
    begun_time: int
    begun_serial: int
    """For the judge of the model only: changes upstream after this came during the reconciliation."""
    held_at_begin: set
    last_phase: int
    phase: int = 1
    """The number of the full walk under way; `last_phase`: no further one is needed."""
    seen: set = dataclasses.field(default_factory=set)
    walked: int = 0
    """The tick at which the last full walk was received: the live walk has to begin after it."""
    lived: Optional[int] = None
    """The tick at which that live walk was received: the sweep has to begin after it."""
    has_swept: bool = False


def checksum(accounts):
    """Count and XOR of a hash of key and updated_at, as a start compares them (delivery.md, "Starting")."""
    total = len(accounts) << 64
    for key, version in accounts.items():
        total ^= hash((key, version.updated_at, 7)) & MASK
    return total


class World:
    """Clock, upstream, Kafka and the instances of one play. It judges: each promise is checked where it can break."""

    def __init__(self, pick, flags, trace=None):
        self.pick = pick
        self.flags = flags
        self.trace = trace
        self.now = BOOT
        self.tick = 0
        self.late_window = 40
        self.backlog = 60
        self.date_step = 10
        self.date_error = 0
        self.own_error = 0
        self.login_error = 0
        """By how much both clocks were ahead at the login."""
        self.page_limit = 3
        self.stalled = None
        self.instances = []
        self.is_over = False
        self.instance_count = 0
        self.upstream = Upstream(self)
        self.kafka = Kafka(self)
        for key in range(4):
            self.upstream.show(key, BOOT - 20 - (key * 37 + 11) % 61, 0, BOOT - 20)

    def say(self, *words):
        if self.trace is not None:
            self.trace.append(f"{self.now:5d} " + " ".join(map(str, words)))

    def broken(self, promise, *words):
        self.say("!!", promise, *words)
        raise Broken(promise)

    def next_tick(self):
        """A place in the order of requests and answers; the program has the same (`Tick`)."""
        self.tick += 1
        return self.tick

    def wait(self, duration):
        self.now += duration
        self.upstream.show_what_was_late()

    def without(self, fix):
        return fix not in self.flags

    def start_instance(self):
        self.instances.append(Instance(self))


class Upstream:
    """The Exports API (docs/upstream-api.md): rows by (updated_at, key), keyset paging, and what goes wrong there."""

    def __init__(self, world):
        self.world = world
        self.rows = {}
        self.serial = 0
        self.pending = []
        """Written but not visible yet: (visible at, key, updated_at, content)."""
        self.highest = {}
        """By key, the highest updated_at that it ever had: a row below it went back."""
        self.visible_at = {}
        self.there_since = {}
        self.went_back = {}
        self.gone = {}
        self.has_dead_cursor = False
        self.repeats_page = False
        self.led_to = {}
        """By cursor, the page that it came with and the cursor of that one."""

    def show(self, key, updated_at, content, visible_at=None):
        self.serial += 1
        if key in self.rows and updated_at < self.rows[key].updated_at:
            self.went_back.setdefault(key, []).append(self.serial)
        self.rows[key] = Row(key, updated_at, content, self.serial)
        self.visible_at[key] = self.world.now if visible_at is None else visible_at
        self.highest[key] = max(self.highest.get(key, 0), updated_at)
        self.there_since.setdefault(key, self.world.now)
        self.world.say(f"upstream: row {key} is now u={updated_at} c={content}")

    def show_what_was_late(self):
        for late in sorted(late for late in self.pending if late[0] <= self.world.now):
            self.pending.remove(late)
            key = late[1]
            if key in self.rows:
                self.show(*late[1:])

    def date(self):
        """The `Date` header, which is cut to whole seconds."""
        return (self.world.now + self.world.date_error) // self.world.date_step * self.world.date_step

    def query(self, since, until, cursor, limit):
        """One page and its next cursor. A full page may say that there is more though there is not."""
        place = cursor.place if cursor else (-1, -1)
        if cursor and (cursor.since, cursor.until) != (since, until):
            self.world.broken("Foreign", "a cursor sent with other bounds", cursor, since, until)
        matching = [
            row
            for row in self.rows.values()
            if (since is None or row.updated_at >= since) and (until is None or row.updated_at < until) and row.place > place
        ]
        matching.sort(key=lambda row: row.place)
        page = matching[:limit]
        has_more = len(matching) > limit or (page and len(page) == limit and self.world.pick(3) == 1)
        return page, Cursor(page[-1].place, since, until) if has_more else None

    def happens(self, event, key=None):
        """An event of upstream's, to a key that is picked unless it is given."""
        world = self.world
        keys = sorted(self.rows)
        if key is None:
            key = keys[world.pick(len(keys))] if keys else None
        if event == "tick":
            world.wait(1 + world.pick(6))
        elif event == "big":
            world.wait(world.date_step + world.pick(2 * world.late_window))
        elif event == "ins":
            if len(self.highest) < 8:
                self.show(len(self.highest), world.now, self.serial)
        elif event == "bulk":
            for key in keys:
                self.show(key, max(world.now, self.rows[key].updated_at), self.serial)
        elif event == "reap":
            self.bring_one_back()
        elif key is not None:
            self.happens_to(event, key)

    def happens_to(self, event, key):
        world = self.world
        row = self.rows[key]
        if event == "upd":
            # At times a second change within the same millisecond.
            is_later = world.pick(5) or row.updated_at > world.now
            self.show(key, world.now if is_later else row.updated_at, self.serial)
        elif event == "late":
            visible_at = world.now + 1 + world.pick(world.late_window)
            is_pending = any(late[1] == key for late in self.pending)
            if world.now >= row.updated_at and not is_pending:
                world.say(f"upstream: row {key} u={world.now} written, visible only at {visible_at}")
                self.pending.append((visible_at, key, world.now, self.serial + 100))
        elif event == "ahead":
            self.show(key, world.now + 1 + world.pick(2 * world.late_window), self.serial)
        elif event == "back":
            self.show(key, min(row.updated_at, world.now) - 1 - world.pick(world.late_window), self.serial)
        elif event == "flip":
            is_back = row.content and world.pick(2)
            self.show(key, row.updated_at, row.content - 1 if is_back else row.content + 1)
        elif event == "del":
            self.gone[key] = (row.updated_at, row.content, world.tick)
            del self.rows[key]
            self.there_since.pop(key, None)
            self.pending = [late for late in self.pending if late[1] != key]
            world.say(f"upstream: row {key} deleted")

    def bring_one_back(self):
        """A row that was deleted is there again: as it was (a restored backup), or anew."""
        world = self.world
        keys = sorted(key for key in self.gone if key not in self.rows)
        if not keys:
            return
        key = keys[world.pick(len(keys))]
        is_as_it_was = world.pick(2)
        updated_at, content = self.gone[key][:2] if is_as_it_was else (world.now, self.serial)
        self.there_since.pop(key, None)
        self.show(key, updated_at, content)


class Kafka:
    """The log of committed transactions and the one transactional id (delivery.md, "The transaction")."""

    def __init__(self, world):
        self.world = world
        self.log = []
        self.producer_epoch = 0
        self.open = None
        """(producer epoch, transaction): its outcome is not decided yet."""
        self.doubtful_epoch = None
        """A producer that went on after a slow commit (mutation slow_go_on)."""
        self.topic = {}
        """The latest record of each key."""
        self.written = {}
        """By key, the serials and versions that were written since the last tombstone."""
        self.literal_repeats = 0

    def append(self, transaction):
        """Commits, and holds the transaction to the promises."""
        world = self.world
        number = len(self.log)
        record = transaction.cursor
        for key, row, verdict in transaction.records:
            if row is None:
                self.topic.pop(key, None)
                self.written.pop(key, None)
                continue
            before = self.topic.get(key)
            written = self.written.setdefault(key, {})
            if before and row.updated_at < before.updated_at and verdict != "reg":
                world.broken("In order", key, before, row)
            if row.serial in written and (verdict != "reg" or world.without("regonce")):
                world.broken("Once", key, row, "already written")
            version = (row.updated_at, row.content)
            self.literal_repeats += version in written.values()
            written[row.serial] = version
            self.topic[key] = row
        if record is None:
            world.broken("Atomic", "accounts without their cursor record")
        if self.log:
            last = self.log[-1].cursor
            is_behind = record.order <= last.order
            if is_behind or (record.instance not in (last.instance, None) and record.epoch == last.epoch):
                world.broken("One writer", last.instance, *last.order, "then", record.instance, *record.order)
        if record.checksum != checksum(self.topic):
            world.broken("Atomic", "checksum of the record is not the topic's")
        self.log.append(transaction)
        wrote = [(key, row and row[1:3], verdict) for key, row, verdict in transaction.records]
        world.say(
            f"kafka: #{number} {record.instance} e{record.epoch} s{record.sequence} read={record.read} settled={record.settled} "
            f"ranges={len(record.ranges)} wrote={wrote}"
        )

    def init_transactions(self):
        """Ends what an earlier producer left open, and fences it."""
        self.open = None
        self.producer_epoch += 1
        return self.producer_epoch

    def land(self):
        """The open transaction is committed after all, though its producer was told nothing."""
        if self.open and self.open[0] == self.producer_epoch:
            transaction = self.open[1]
            self.open = None
            self.append(transaction)

    def cursor_record(self):
        """The current one: the highest epoch and sequence."""
        return max((transaction.cursor for transaction in self.log), key=lambda record: record.order, default=None)


class Walk:
    """Consecutive pages under one `since` and `until` (delivery.md, "Reading"). `kind`: range, live, sweep, early or full."""

    def __init__(self, kind, since, until, cursor=None, highest=None, stop=None, last=None, known=None):
        self.kind = kind
        self.since = since
        self.until = until
        self.first_since = since
        self.first_until = until
        self.stop = stop
        self.cursor = cursor
        self.first_cursor = cursor
        self.highest = highest
        self.committed_highest = highest
        self.last = last
        """Time and key of the row before the cursor: the next page has to go on behind it."""
        self.known = known or frozenset()
        """The rows of that time that came already."""
        self.resumed = last[0] if last and not known else None
        """The time of which rows may have come that are not known, because only `last` stands in the cursor record."""
        self.following = None
        self.clock = None
        """Upstream's clock at the first answer."""
        self.state = "idle"
        self.answer = None
        self.requested_tick = None
        self.requested_at = None
        self.begun_at = None
        self.begun_tick = None
        self.left = None
        """The lowest updated_at of a row that this walk left for the next sweep."""
        self.left_keys = set()


class Instance:
    """One process and one lender: the reader's walks, and the owner that decides, commits and remembers."""

    def __init__(self, world):
        self.world = world
        self.kafka = world.kafka
        self.upstream = world.upstream
        self.state = "init"
        self.name = f"I{world.instance_count}"
        world.instance_count += 1
        self.producer_epoch = None
        self.record = None
        self.index = {}
        self.tombstones = {}
        self.restored = {}
        self.read_up_to = 0
        """How much of the log `restored` holds. While the lender is run: how far was read past it, for nothing."""
        self.back_to = 0
        """That, when the lender was asked for."""
        self.found = None
        """The record that is claimed."""
        self.attempted = None
        self.forget_walks()
        world.say(self.name, "starts")

    def forget_walks(self):
        self.channel = []
        self.ranges = []
        self.live = None
        self.rest = None
        """What a live walk left to a range that is not committed yet."""
        self.sweep = None
        """One at a time, of either kind."""
        self.full = None
        self.reconciling = None
        self.lived = 0
        """The tick at which the last live walk began that is committed."""
        self.clock = None
        """The latest clock of any answer."""
        self.early = 0
        """Up to here early sweeps have read."""
        self.read_known = 0
        """The tick at which a commit that moved `read` was known."""
        self.known_at_place = frozenset()

    def is_running(self):
        return self.state == "run"

    def has_begun(self):
        return self.record.t0 is not None

    def walks(self):
        return [walk for walk in self.ranges + [self.live, self.rest, self.sweep, self.full] if walk]

    # Reader: a request, its evaluation upstream, its answer. Any time may pass between the three.

    def send(self, walk):
        walk.requested_tick = self.world.next_tick()
        walk.requested_at = self.world.now
        walk.state = "sent"
        if walk.begun_at is None:
            walk.begun_at = self.world.now

    def serve(self, walk):
        world, upstream = self.world, self.upstream
        if walk.cursor and upstream.has_dead_cursor:
            walk.answer = "dead"
            upstream.has_dead_cursor = False
        else:
            rows, next_cursor = upstream.query(walk.since, walk.until, walk.cursor, 1 + world.pick(world.page_limit))
            if upstream.repeats_page and walk.cursor in upstream.led_to:
                # The rows of the page before, or of one further back, with the cursor that was sent or with the next one that is due.
                rows, cursor = upstream.led_to[walk.cursor]
                for _ in range(world.pick(3)):
                    rows, cursor = upstream.led_to.get(cursor, (rows, cursor))
                next_cursor = next_cursor if world.pick(2) else walk.cursor
                upstream.repeats_page = False
            elif next_cursor:
                upstream.led_to[next_cursor] = rows, walk.cursor
            walk.answer = rows, next_cursor
        walk.state = "served"
        shown = walk.answer if walk.answer == "dead" else f"{[row[:3] for row in walk.answer[0]]} next={bool(walk.answer[1])}"
        world.say(
            f"upstream answers {walk.kind} [{walk.since},{walk.until}) cur={walk.cursor and walk.cursor.place} req@{walk.requested_at}:",
            shown,
        )

    def receive(self, walk):
        """Verifies an answer and hands it to the owner (Reading: "A page counts only if")."""
        world = self.world
        received = world.next_tick()
        walk.state = "idle"
        if walk.answer == "dead":
            self.walk_afresh(walk)
            return
        rows, next_cursor = walk.answer
        if not self.goes_on(walk, rows) and "no_continue_check" not in world.flags:
            # Discarded, and asked for again; but after a restart nobody knows what came before, and perhaps it is no repetition.
            if walk.resumed == walk.last[0]:
                self.walk_afresh(walk)
            return
        clock, date = self.read_clocks(walk)
        if walk.clock is None:
            walk.clock = clock
        place = Place(walk.since, walk.cursor, walk.last, rows[0].place if rows else None) if walk.cursor else None
        known = walk.known
        if rows:
            walk.known = frozenset(row[:3] for row in rows if row.updated_at == rows[-1].updated_at)
            if walk.last and walk.last[0] == rows[-1].updated_at:
                walk.known |= known
            walk.last = rows[-1].place
            walk.highest = max(walk.highest or 0, rows[-1].updated_at)
        walk.cursor = next_cursor
        is_past_stop = walk.kind == "range" and bool(rows) and rows[-1].updated_at >= walk.stop
        is_last = next_cursor is None or is_past_stop
        rest = None
        if walk.kind == "live" and not is_last and walk.highest < self.clock - world.backlog:
            rest = self.rest = self.rest_of(walk)
        if is_last or rest:
            walk.state = "eof"
        self.channel.append(
            Page(
                walk=walk,
                rows=rows,
                next_cursor=next_cursor,
                requested=walk.requested_tick,
                received=received,
                is_last=is_last,
                highest=walk.highest,
                last=walk.last,
                since=walk.since,
                until=walk.until,
                place=place,
                known=known,
                clock=clock,
                date=date,
                rest=rest,
            )
        )

    def rest_of(self, walk):
        """What is asked for from here on is asked for after the clock that ends it. Below a row that is dated ahead, more may come."""
        if walk.highest >= walk.clock and "backlog_ahead" in self.world.flags:
            return Walk("range", max(walk.clock, self.record.read), self.clock, stop=self.clock)
        return Walk("range", walk.since, None, walk.cursor, walk.highest, self.clock, walk.last, walk.known)

    def goes_on(self, walk, rows):
        """By what the program can know: times, and rows that it has seen; not how upstream orders keys within a time."""
        if not rows or walk.last is None:
            return True
        within = walk.last[0]
        if rows[0].updated_at < within or all(row[:3] in walk.known for row in rows):
            return False
        if walk.resumed != within or rows[-1].updated_at > within or "resume_any" in self.world.flags:
            return True
        places = [row.place for row in rows]
        return walk.following in places or (walk.last not in places and not all(self.is_held(row) for row in rows))

    def is_held(self, row):
        """Whether it is known from the index, at its time or later: then it may have come before a restart."""
        held = self.index.get(row.key)
        is_known = row.key in self.tombstones or (held is not None and held.updated_at >= row.updated_at)
        return is_known and "resume_held" in self.world.flags

    def read_clocks(self, walk):
        """The clock of an answer, and the same without what the request took (Reading: "The clock")."""
        world = self.world
        date = self.upstream.date()
        if not world.without("earlier"):
            date = min(date, world.now + world.own_error)
        took = 0 if world.without("datereq") else world.now - walk.requested_at
        self.clock = max(self.clock or 0, date - took)
        return date - took, date

    def walk_afresh(self, walk):
        """A dead cursor: on from the highest committed row, whose equals come again (Reading: "A fresh walk")."""
        if walk.committed_highest is not None:
            walk.since = walk.committed_highest + ("dead_excl" in self.world.flags)
        if walk.kind == "range":
            walk.until = walk.stop
        walk.cursor = None
        walk.last = None
        walk.known = frozenset()
        walk.resumed = None
        if self.world.without("keepdate"):
            walk.clock = None

    # Owner: decide, commit, remember.

    def judge(self, held, row, page):
        """The index table (delivery.md, "The index"): `w` written, `reg` written though it went back, `left` for the next sweep, and
        three that are not written."""
        flags = self.world.flags
        is_before_tombstone = page.requested <= self.tombstones.get(row.key, 0)
        if is_before_tombstone and (held is None or "regtick" in flags) and "no_tombtick" not in flags:
            return "left"
        if held is None:
            return "w"
        is_after = page.requested > held.received
        if row.updated_at > held.updated_at:
            is_before_regression = "regtick" in flags and page.requested <= held.regressed
            return "left" if is_before_regression else "w"
        if row.updated_at == held.updated_at:
            if row.content == held.content:
                return "same"
            return "w" if is_after or "no_ticks" in flags else "left"
        if not is_after:
            return "stale"
        return "reg" if page.walk.kind == "full" else "regressed"

    def attempt(self, pages=(), split=None, claim=None, deleted=(), is_begin=False, is_release=False):
        """Decides a batch and commits it, with the cursor record that it leads to, in one transaction (delivery.md, "The
        transaction")."""
        world, flags = self.world, self.world.flags
        if claim is not None:
            record = dataclasses.replace(claim, epoch=claim.epoch + 1)
            index = {}
        else:
            record = dataclasses.replace(self.record)
            index = self.index
        record.instance = None if is_release else self.name
        record.sequence += 1
        written, records = {}, []
        ranges = dict(zip(self.ranges, record.ranges))
        if is_begin:
            self.begin_snapshot(record, ranges)
        if split:
            self.decide_split(split, ranges)
        for page in pages:
            self.decide_page(page, record, ranges, index, written, records)
        for key in deleted:
            self.decide_deletion(key, written, records)
        held = {key: version for key, version in {**index, **written}.items() if version is not None}
        if claim is None:
            record.ranges = record.ranges if is_release else tuple(ranges.values())
            record.checksum = checksum(held)
        self.attempted = Attempt(
            pages=list(pages),
            record=record,
            written=written,
            wrote={key for key, _, _ in records},
            alive=set(ranges),
            new_ranges=[walk for walk in ranges if walk not in self.ranges],
            split=split,
            is_claim=claim is not None,
            deleted=deleted,
            is_begin=is_begin,
            is_release=is_release,
        )
        if "decide_ahead" in flags and claim is None:
            self.index = held
        self.commit(Transaction(records, record))

    def begin_snapshot(self, record, ranges):
        """T0 by upstream's clock: one range up to it, live from it on (Reading: "Snapshot")."""
        world = self.world
        own = world.now + world.own_error
        t0 = (self.upstream.date() if world.without("earlier") else min(self.upstream.date(), own)) + world.login_error
        self.clock = t0
        record.t0 = t0
        record.read = t0
        record.settled = t0 - (0 if "settled_t0" in world.flags else world.late_window)
        ranges[Walk("range", None, t0, stop=t0)] = RangeEntry(None, t0, t0, None, None)

    def decide_split(self, split, ranges):
        """The running range ends at `middle` under its old bounds; a fresh walk reads the rest (Reading: "Snapshot")."""
        walk, middle = split
        entry = ranges[walk]
        until = middle if "split_until" in self.world.flags else entry.until
        ranges[walk] = entry._replace(until=until, stop=middle)
        self.add_range(ranges, middle + ("split_gap" in self.world.flags), entry.stop)

    def add_range(self, ranges, since, stop):
        ranges[Walk("range", since, stop, stop=stop)] = RangeEntry(since, stop, stop, None, None)

    def leave_backlog(self, page, record, ranges):
        """The rest of a live walk becomes a range, and so does what was not settled; live goes on from the clock (Reading: "Live")."""
        flags, walk = self.world.flags, page.walk
        is_free = not any(entry.stop > record.settled for entry in ranges.values())
        unsettled_until = record.read + ("backlog_incl" in flags)
        if "backlog_late" in flags:
            page.rest.stop = self.clock
        stop = page.rest.stop
        if "backlog_behind" in flags:
            self.add_range(ranges, page.highest + 1, stop)
        elif "backlog_lost" not in flags:
            rest = page.rest
            until = stop if "backlog_until" in flags else rest.first_until
            last = page.last if rest.first_cursor else None
            ranges[rest] = RangeEntry(rest.first_since, until, stop, rest.first_cursor, rest.committed_highest, last)
        if is_free or "backlog_again" in flags:
            if record.settled < unsettled_until and is_free and "backlog_unsettled" not in flags:
                self.add_range(ranges, record.settled, unsettled_until)
            bounds = [(stop if "backlog_clock" in flags else walk.clock) - self.world.late_window]
            if walk.left is not None and "backlog_hold" in flags:
                bounds.append(walk.left)
            record.settled = max(record.settled, min(bounds))
        record.read = stop
        record.place = None

    def decide_page(self, page, record, ranges, index, written, records):
        """Judges every row against what is held and what the batch decided before; then the page moves its mark."""
        world = self.world
        walk, is_done = page.walk, page.is_last
        is_range = walk.kind == "range"
        if is_range and walk not in ranges:
            return
        is_clock_behind = page.requested > self.read_known and page.date < self.record.read
        if is_clock_behind and "lowered" in world.flags:
            record.settled = min(record.settled, page.clock - world.late_window)
        for row in page.rows:
            if is_range and row.updated_at >= walk.stop:
                is_done = True
                break
            held = written[row.key] if row.key in written else index.get(row.key)
            verdict = self.judge(held, row, page)
            if verdict in ("w", "reg"):
                is_gone = row.key not in self.upstream.rows
                if is_gone and self.upstream.gone[row.key][2] < self.tombstones.get(row.key, 0):
                    world.broken("Reconcile", "a deleted account came back", row.key)
                regressed_before = held.regressed if held else 0
                regressed = page.received if verdict == "reg" else regressed_before
                written[row.key] = Held(*row, page.received, regressed)
                records.append((row.key, row, verdict))
            elif verdict == "same" and "back_again" in world.flags:
                written[row.key] = held._replace(received=max(held.received, page.received))
            elif verdict == "left":
                walk.left = min(walk.left or row.updated_at, row.updated_at)
                walk.left_keys.add(row.key)
                if is_range and "range_left" in world.flags:
                    record.settled = min(record.settled, row.updated_at)
            if verdict in ("left", "stale", "regressed"):
                world.say(f"{self.name} {walk.kind} page: row {row[:3]} {verdict}")
        if is_range:
            ranges[walk] = RangeEntry(page.since, page.until, walk.stop, page.next_cursor, page.highest, page.last)
            if is_done:
                del ranges[walk]
        elif page.rest:
            self.leave_backlog(page, record, ranges)
        elif walk.kind == "live":
            self.move_read(page, record)
        elif walk.kind == "sweep" or (walk.kind == "early" and "early_settles" in world.flags):
            self.move_settled(page, record)

    def move_read(self, page, record):
        """`read`: the highest that a live walk saw, but not beyond its clock; and the place where polls go on (Reading: "Live")."""
        flags = self.world.flags
        if not page.is_last or page.highest is None:
            return
        if "read_unbounded" in flags:
            record.read = page.highest
        else:
            record.read = max(record.read, min(page.highest, page.walk.clock))
        is_within = page.place is not None and page.place.last[0] == record.read
        is_closed = record.read < page.walk.clock or "closed" not in flags
        record.place = page.place if is_within and is_closed else None

    def move_settled(self, page, record):
        """`settled`: what the sweep read, less what may still become visible, less what was left (Reading: "Late rows")."""
        flags = self.world.flags
        if not page.is_last and "settled_early" not in flags:
            return
        walk = page.walk
        if record.settled < walk.first_since and "proof" in flags and walk.kind == "sweep":
            return
        bounds = [record.read + 1 if self.world.without("until") else walk.first_until]
        if "undue" not in flags:
            bounds.append(walk.clock - self.world.late_window)
        if "hold" in flags and walk.left is not None:
            bounds.append(walk.left)
        record.settled = max(record.settled, min(bounds))

    def decide_deletion(self, key, written, records):
        """A tombstone; the model's judge knows whether the account was there all along."""
        written[key] = None
        records.append((key, None, "d"))
        upstream = self.upstream
        was_there = upstream.there_since.get(key, self.world.now) < self.reconciling.begun_time
        moves_back = sum(serial > self.reconciling.begun_serial for serial in upstream.went_back.get(key, ()))
        # One that goes back twice during a reconciliation can stay unseen: a named limit.
        if was_there and key in upstream.rows and moves_back < 2:
            self.world.broken("Reconcile", "tombstone for live account", key)

    def commit(self, transaction):
        """EndTxn: it succeeds, or its outcome is uncertain, whatever really came of it."""
        world, kafka = self.world, self.kafka
        sequence = transaction.cursor.sequence
        if kafka.open and kafka.open[0] == self.producer_epoch:
            kafka.open = None
        is_fenced = self.producer_epoch != kafka.producer_epoch and "no_fence" not in world.flags
        if self.attempted.is_release:
            self.commit_release(transaction, is_fenced)
            return
        if is_fenced:
            self.was_fenced()
            return
        if kafka.doubtful_epoch == self.producer_epoch and transaction.records and world.pick(2):
            # A repeated EndTxn of the slow commit decides this transaction half-way.
            kafka.append(Transaction(transaction.records[:1], None))
        landed, slow, still_open, lost = 1, 2, 3, 4
        outcome = world.pick(12)
        if outcome in (landed, slow):
            kafka.append(transaction)
        if outcome == still_open:
            kafka.open = (self.producer_epoch, transaction)
        if outcome in (landed, slow, still_open, lost):
            said = {landed: "(it landed)", slow: "(slow, landed)"}.get(outcome, "(it did not land yet)")
            world.say(self.name, f"commit of s{sequence} uncertain", said)
            if outcome == slow and "slow_go_on" in world.flags:
                kafka.doubtful_epoch = self.producer_epoch
                self.remember()
                return
            self.state = "reopen"
            return
        kafka.append(transaction)
        self.remember()

    def commit_release(self, transaction, is_fenced):
        """Only one that is known to have landed says that nobody else has committed before it."""
        world = self.world
        is_known, lands = world.pick(4) > 0, world.pick(2)
        if not is_fenced and (is_known or lands):
            self.kafka.append(transaction)
        if (is_known and not is_fenced) or (not is_known and "release_doubtful" in world.flags):
            self.state = "released"
        else:
            self.stop()

    def stand_by(self):
        """What was held is what was committed up to the release; what others commit from then on is read on."""
        self.restored = {key: Row(*held[:4]) for key, held in self.index.items()}
        if "back_to" in self.world.flags:
            self.read_up_to = self.back_to
        self.attempted = None
        self.state = "restored"
        self.forget_walks()
        self.world.say(self.name, "stands by")

    def was_fenced(self):
        """Another instance's claim is looked for; without one, our own transaction ran out of time: reopen."""
        record = self.kafka.cursor_record()
        self.state = "reopen"
        self.world.say(self.name, "is fenced")
        attempted = self.attempted
        if attempted.is_claim or (record.instance != self.name and record.epoch > attempted.record.epoch):
            self.stop()

    def stop(self):
        """It ends, or it stands by, and then restores as it did at first."""
        self.world.say(self.name, "stops")
        if self.world.is_over or self.world.pick(2):
            self.world.instances.remove(self)
            return
        self.attempted = None
        self.found = None
        self.state = "init"
        if "lost_keeps" in self.world.flags:
            self.stand_by()
            return
        self.restored, self.read_up_to = {}, 0
        self.index, self.tombstones = {}, {}
        self.forget_walks()

    def revoke(self):
        """The group asks for the lender: reading ends, an open batch is decided first, and the record says that nobody runs it."""
        if not self.is_running():
            return
        self.back_to = self.read_up_to
        self.forget_walks()
        self.record = dataclasses.replace(self.record)
        self.attempt(is_release=True)

    def remember(self):
        """Only a commit that is known makes its batch part of the index."""
        attempted = self.attempted
        self.attempted = None
        self.state = "run"
        if self.record is None or self.record.read != attempted.record.read:
            self.read_known = self.world.next_tick()
        self.record = attempted.record
        if attempted.is_claim:
            self.restore()
            return
        self.ranges += attempted.new_ranges
        if attempted.split:
            walk, middle = attempted.split
            walk.stop = middle
            if "split_until" in self.world.flags:
                walk.until = middle
        for key, version in attempted.written.items():
            if version is None:
                self.index.pop(key, None)
                self.tombstones[key] = self.world.next_tick()
            else:
                self.index[key] = version
        for page in attempted.pages:
            self.remember_page(page, attempted)
        self.ranges = [walk for walk in self.ranges if walk in attempted.alive]
        if attempted.deleted != ():
            self.reconciling = None

    def remember_page(self, page, attempted):
        walk, reconciling = page.walk, self.reconciling
        if page.highest is not None:
            walk.committed_highest = page.highest
        if reconciling:
            is_after_begin = page.requested > reconciling.begun_tick
            reconciling.seen |= attempted.wrote | ({row.key for row in page.rows} if is_after_begin else set())
        if page.rest and walk is self.live:
            self.live = self.rest = None
            self.early = max(self.early, page.rest.stop)
        if not page.is_last:
            return
        if walk is self.live:
            self.known_at_place = walk.known if "place_knows_all" in self.world.flags else page.known
            self.live_walk_ended(page)
        if walk is self.sweep:
            self.sweep_ended(walk)
        if walk is self.full:
            self.full = None
            reconciling.phase += 1
            reconciling.walked = page.received

    def live_walk_ended(self, page):
        """Judges: what was on time, visible before the walk began and is still there must be held now, unless it was left for the next
        sweep (Complete judges that in the end) or lies in a range."""
        world, upstream, walk = self.world, self.upstream, page.walk
        self.live = None
        self.lived = walk.begun_tick
        reconciling = self.reconciling
        if reconciling and reconciling.lived is None and self.lived >= reconciling.walked > 0:
            reconciling.lived = page.received
        for key, row in upstream.rows.items():
            is_on_time = upstream.visible_at[key] == row.updated_at < walk.begun_at
            is_live = row.updated_at >= max(upstream.highest[key], self.record.t0 or 0)
            is_in_range = any((entry.highest or entry.since or 0) <= row.updated_at < entry.stop for entry in self.record.ranges)
            if not is_on_time or not is_live or is_in_range or key in self.tombstones or key in walk.left_keys:
                continue
            if key not in self.index or self.index[key].updated_at < row.updated_at:
                world.broken("Live", "a row that was on time was not read by the live walk after it:", row, "read", self.record.read)

    def sweep_ended(self, walk):
        self.sweep = None
        self.early = max(self.early, walk.first_until)
        reconciling = self.reconciling
        if reconciling and reconciling.lived is not None and walk.begun_tick >= reconciling.lived and walk.kind == "sweep":
            reconciling.has_swept = True

    def follow(self):
        """Reads what was committed: of a lender that it runs itself, it knows."""
        if self.is_running() or self.state == "released":
            self.read_up_to = len(self.kafka.log)
        elif self.state == "restored":
            self.read_on()

    def read_on(self):
        """What was committed since the last reading of the topic (delivery.md, "Starting")."""
        for transaction in self.kafka.log[self.read_up_to :]:
            for key, row, _ in transaction.records:
                if row is None:
                    self.restored.pop(key, None)
                else:
                    self.restored[key] = row
        self.read_up_to = len(self.kafka.log)

    def claim(self):
        """Claims the record as it is, if it is what was restored."""
        if "restore_only" not in self.world.flags:
            self.read_on()
        if self.found is None or "claim_again" not in self.world.flags:
            self.found = self.kafka.cursor_record() or CursorRecord()
        if checksum(self.restored) != self.found.checksum:
            self.world.broken("Refused", "what is restored and the record differ")
        self.attempt(claim=self.found)

    def restore(self):
        """The index from what was restored."""
        tick = self.world.tick
        self.index = {key: Held(*row, tick, 0) for key, row in self.restored.items()}
        self.forget_walks()
        self.ranges = [
            Walk("range", entry.since, entry.until, entry.cursor, entry.highest, entry.stop, entry.cursor and entry.last)
            for entry in self.record.ranges
        ]

    def step(self, page_count=1):
        """The owner's next step: towards running, or one transaction."""
        reconciling = self.reconciling
        if self.state == "init":
            # Nobody is fenced by that.
            self.read_on()
            self.state = "restored"
            self.world.say(self.name, "restores")
        elif self.state == "restored":
            self.producer_epoch = self.kafka.init_transactions()
            self.state = "read"
            self.world.say(self.name, "init_transactions")
        elif self.state == "released":
            self.stand_by()
        elif self.state == "read":
            self.claim()
        elif self.state == "reopen":
            self.producer_epoch = self.kafka.init_transactions()
            self.state = "back"
            self.world.say(self.name, "reopens: init_transactions")
        elif self.state == "back":
            self.read_back()
        elif not self.has_begun():
            self.attempt(is_begin=True)
        elif reconciling and self.has_read_all():
            self.write_tombstones()
        elif self.channel or page_count == 0:
            page_count = max(1, page_count)
            pages, self.channel = self.channel[:page_count], self.channel[page_count:]
            self.attempt(pages=pages)

    def read_back(self):
        """The one way back: what the cursor record says decides whether the batch landed."""
        flags = self.world.flags
        record, attempted = self.kafka.cursor_record(), self.attempted
        is_own = record is not None and record.instance == self.name and record.epoch == attempted.record.epoch
        is_reached = record is not None and record.sequence >= attempted.record.sequence
        has_landed = is_reached and (is_own or "own" not in flags)
        self.world.say(
            self.name,
            f"reads back {record and (record.instance, record.epoch, record.sequence)}, attempted s{attempted.record.sequence}: "
            f"landed={has_landed}",
        )
        if has_landed:
            self.remember()
        elif attempted.is_claim:
            self.attempted = None
            self.state = "read"
        elif "own" in flags and record.instance != self.name:
            self.stop()
        else:
            if "drop_kept" not in flags:
                self.channel = attempted.pages + self.channel
            self.attempted = None
            self.state = "run"

    # Live walks, sweeps, reconcile.

    def begin(self, kind):
        if not self.is_running() or not self.has_begun():
            return
        if kind == "live" and not self.live:
            self.live = self.next_live_walk()
            self.live.begun_tick = self.world.next_tick()
        if kind in ("sweep", "early", "whole") and not self.sweep:
            self.begin_sweep(kind)
        if kind == "rc" and not self.ranges:
            self.begin_reconcile()

    def next_live_walk(self):
        """On from the place where the last one ended, else from `read`."""
        place = self.record.place
        if place is None:
            return Walk("live", self.record.read, None)
        walk = Walk("live", place.since, None, place.cursor, place.last[0], None, place.last, self.known_at_place)
        walk.following = place.following
        return walk

    def begin_sweep(self, kind):
        """What is due, once; or all up to `read`; or, early, what may be late, only to find it sooner (Reading: "Late rows")."""
        world, record = self.world, self.record
        since, until = record.settled, self.sweep_end()
        if kind == "early":
            since = max(since, self.early)
        if kind != "whole":
            wait = world.late_window if kind == "sweep" else world.late_window // 4
            until = min(until, (self.clock or 0) - wait)
        if "sweep_from_now" in world.flags:
            since = max(since, min(until - 1, world.now - world.late_window))
        if since < until:
            self.sweep = Walk("early" if kind == "early" else "sweep", since, until)
            self.sweep.begun_tick = world.next_tick()

    def sweep_end(self):
        """Behind `read`: rows may enter its time behind the place from which polls go on."""
        return self.record.read + ("sweep_excl" not in self.world.flags)

    def has_read_all(self):
        """A reconciliation has: two full walks, ranges that came up meanwhile, a live walk after them and a whole sweep after that."""
        reconciling = self.reconciling
        if reconciling.phase != reconciling.last_phase or reconciling.lived is None or self.ranges:
            return False
        return reconciling.has_swept or self.record.settled >= self.sweep_end()

    def begin_reconcile(self):
        """Two full walks: one that moves past the first by going back is met by the second (Reading: "Reconcile")."""
        world = self.world
        if not self.reconciling:
            self.reconciling = Reconciling(
                begun_tick=world.next_tick(),
                begun_time=world.now,
                begun_serial=self.upstream.serial,
                held_at_begin=set(self.index),
                last_phase=2 if "rc_one_walk" in world.flags else 3,
            )
            world.say(self.name, "reconcile starts")
        if not self.full and self.reconciling.phase < self.reconciling.last_phase:
            self.full = Walk("full", None, None)

    def write_tombstones(self):
        unseen = self.reconciling.held_at_begin - self.reconciling.seen
        keys = tuple(sorted(key for key in unseen if key in self.index))
        self.world.say(self.name, "reconcile ends, tombstones", keys)
        if keys:
            self.attempt(deleted=keys)
        else:
            self.reconciling = None


# One play: events, then a quiet end at which both sides are compared.

READER_EVENTS = {"send": "idle", "serve": "sent", "recv": "served"}
"""The state in which a walk has to be for the event."""


def advance_walk(instance, walk):
    """The next of request, evaluation, answer."""
    if walk.state == "idle":
        instance.send(walk)
    elif walk.state == "sent":
        instance.serve(walk)
    elif walk.state == "served":
        instance.receive(walk)


def instance_event(world, event):
    """An event of one of the instances."""
    instance = world.instances[world.pick(len(world.instances))]
    if event == "up":
        instance.step(1 + world.pick(3))
    elif event == "pump":
        pump(world, instance)
    elif event == "crash":
        world.say(instance.name, "is killed")
        world.instances.remove(instance)
    elif event == "commit":
        if instance.is_running():
            instance.step(world.pick(4))
    elif event == "revoke":
        instance.revoke()
    elif event == "lost":
        if instance.state in ("run", "reopen", "back") and instance.record is not None:
            instance.stop()
    elif event == "follow":
        instance.follow()
    elif event in ("live", "sweep", "early", "rc"):
        instance.begin(event)
    elif instance.state in ("init", "restored", "read", "released") or instance.record is None:
        return
    elif event == "split" and instance.is_running() and instance.ranges:
        split_one(world, instance)
    else:
        state = READER_EVENTS.get(event)
        walks = [walk for walk in instance.walks() if walk.state == state]
        has_room = event != "send" or len(instance.channel) < 6
        if walks and has_room:
            advance_walk(instance, walks[world.pick(len(walks))])


def pump(world, instance):
    """Several steps of one instance, so that a play gets anywhere."""
    for _ in range(1 + world.pick(8)):
        if instance not in world.instances:
            return
        walks = []
        if instance.record and instance.is_running():
            walks = [walk for walk in instance.walks() if walk.kind != world.stalled or walk.state != "served"]
        choice = world.pick(len(walks) + 2)
        is_owners = choice == 0 and (instance.channel or instance.reconciling)
        if not instance.is_running() or not instance.has_begun() or is_owners:
            instance.step(1 + world.pick(2))
        elif choice < 2:
            kinds = ("live", "sweep", "live", "early", "whole") if not instance.reconciling else ("live", "whole", "rc", "sweep")
            instance.begin(kinds[world.pick(len(kinds))])
        else:
            advance_walk(instance, walks[choice - 2])


def split_one(world, instance):
    walk = instance.ranges[world.pick(len(instance.ranges))]
    position = max(place for place in (walk.committed_highest, walk.since, BOOT - 100) if place is not None)
    if walk.stop - position > 1 and len(instance.ranges) < 4:
        instance.attempt(split=(walk, position + 1 + world.pick(walk.stop - position - 1)))


def step(world, event):
    """One event of the play."""
    if event == "cfg":
        world.late_window = (8, 16, 40)[world.pick(3)]
        world.date_step = (1, 5, 10)[world.pick(3)]
        world.page_limit = 3 - 2 * world.pick(2)
        world.backlog = (60, 12, 30)[world.pick(3)]
        world.login_error = (0, 0, 0, 30)[world.pick(4)]
        for key in range(1 + world.pick(4), 4):
            world.upstream.happens("del", key)
    elif event == "stall":
        world.stalled = (None, "live", "sweep", "full", "range", "early")[world.pick(6)]
    elif event == "clock":
        # One of the two is right, or behind.
        error = 1 + world.pick(2 * world.late_window)
        errors = ((0, 0), (error, 0), (-error, 0), (0, error), (0, -error), (error, -error))
        world.date_error, world.own_error = errors[world.pick(6)]
    elif event == "dead":
        world.upstream.has_dead_cursor = True
    elif event == "dup":
        world.upstream.repeats_page = True
    elif event == "land":
        world.kafka.land()
    elif event in ("boot", "boot2"):
        if len(world.instances) < (1 if event == "boot" else 2):
            world.start_instance()
    elif event == "warm":
        # The snapshot is over before anything happens.
        pick = world.pick
        world.pick = first_choice
        drive(world, lambda instance: not instance.ranges and not instance.channel and not instance.walks(), "warm")
        world.pick = pick
    elif event in ("pump", "send", "serve", "recv", "commit", "live", "sweep", "early", "rc", "split", "crash", "up", "revoke", "lost", "follow"):
        if event == "pump" and not world.instances:
            world.start_instance()
        if world.instances:
            instance_event(world, event)
    else:
        world.upstream.happens(event)


def first_choice(_count):
    """Picks without chance: nothing goes wrong."""
    return 0


def drive(world, is_reached, what):
    """Goes on without chance until an instance has reached something; Stuck if none does."""
    for _ in range(1500):
        if not world.instances:
            world.start_instance()
        for instance in list(world.instances):
            if instance.is_running() and instance.has_begun() and is_reached(instance):
                return
            if has_owner_work(world, instance):
                instance.step(0)
            if not instance.is_running() or instance not in world.instances:
                continue
            if instance.reconciling:
                drive_reconcile(instance)
            for walk in instance.walks():
                advance_walk(instance, walk)
    world.broken("Stuck", what)


def has_owner_work(world, instance):
    if not instance.is_running() or instance.channel or not instance.has_begun():
        return True
    if instance.producer_epoch != world.kafka.producer_epoch or len(world.instances) > 1:
        return True
    return instance.reconciling and instance.has_read_all()


def drive_reconcile(instance):
    reconciling = instance.reconciling
    instance.begin("rc")
    if reconciling.phase == reconciling.last_phase:
        instance.begin("live" if reconciling.lived is None else "whole")


def compare(world, is_strict, what):
    """Complete: the topic holds what upstream shows; before a reconciliation only what was on time and never went back."""
    upstream, topic = world.upstream, world.kafka.topic
    for key, row in upstream.rows.items():
        went_back = row.updated_at < upstream.highest[key]
        was_too_late = upstream.visible_at[key] > row.updated_at + world.late_window
        if not is_strict and (went_back or was_too_late):
            continue
        if topic.get(key, (0, 0, 0))[1:3] != row[1:3]:
            visible = f"visible at {upstream.visible_at[key]}"
            world.broken("Complete", what, "upstream", row, "topic", topic.get(key), visible)
    for key in topic:
        if is_strict and key not in upstream.rows:
            world.broken("Reconcile", "deleted account still there", key)


def is_quiet(world, instance):
    is_alone = len(world.instances) == 1 and instance.producer_epoch == world.kafka.producer_epoch
    has_work = instance.ranges or instance.channel or instance.walks() or instance.reconciling or instance.attempted
    return is_alone and not has_work


def finish(world):
    """Upstream is quiet: catching up, then a reconciliation, and what must hold after each."""
    world.pick = first_choice
    world.upstream.has_dead_cursor = False
    world.upstream.repeats_page = False
    world.is_over = True
    world.wait(max([late[0] for late in world.upstream.pending], default=world.now) - world.now)
    world.say("---- upstream is quiet")

    def quiet(instance):
        return is_quiet(world, instance)

    drive(world, quiet, "ranges")
    lived = world.next_tick()
    while world.instances[0].lived < lived:
        # A live walk that is behind becomes a range.
        world.instances[0].begin("live")
        drive(world, quiet, "live")
    world.instances[0].begin("whole")
    drive(world, quiet, "sweep")
    compare(world, False, "after catching up")
    world.instances[0].begin("rc")
    drive(world, quiet, "reconcile")
    compare(world, True, "after reconcile")


def scripted(flags, name, trace=None):
    """Orders of events too rare for chance. Returns the promise that broke, or None."""
    world = World(lambda count: count - 1, flags, trace)
    world.late_window = 40 if name == "no_tombtick" else 10
    world.backlog = 12
    world.date_step = 1
    world.page_limit = 9
    step(world, "warm")
    try:
        SCRIPTED[name](Script(world))
        finish(world)
    except Broken as broken:
        return str(broken)
    return None


class Script:
    """The words in which an order of events is told."""

    def __init__(self, world):
        self.world = world
        self.upstream = world.upstream
        self.instance = world.instances[0]

    def at(self, moment):
        self.world.wait(moment - self.world.now)

    def change(self, key, updated_at, content):
        self.upstream.show(key, updated_at, content)

    def walk_on(self, walk, actions="send serve recv commit"):
        """One page of a walk, or a part of that; a walk that is named is begun first."""
        instance = self.instance
        if isinstance(walk, str):
            instance.begin(walk)
            walk = {"rc": instance.full, "live": instance.live}.get(walk, instance.sweep)
        for action in actions.split():
            if action == "commit":
                instance.step()
            else:
                {"send": instance.send, "serve": instance.serve, "recv": instance.receive}[action](walk)
        return walk

    def crash(self):
        step(self.world, "crash")

    def restart(self):
        self.crash()
        step(self.world, "boot")
        self.instance = self.world.instances[0]
        while not self.instance.is_running():
            self.instance.step()


def slow_answers_of_two_walks_cross(script):
    """Content changes under one updated_at, and two pages that show either are asked for before both are received."""
    script.at(1043)
    script.change(1, 1043, 50)
    script.walk_on("live")
    script.at(1045)
    # Five milliseconds late.
    script.change(0, 1040, 60)
    script.at(1046)
    slow = script.walk_on("rc", "send serve")
    script.at(1049)
    # Still within the late window of its updated_at.
    script.change(0, 1040, 61)
    script.at(1052)
    sweep = script.walk_on("whole", "send")
    script.walk_on(slow, "recv commit")
    script.walk_on(sweep, "serve recv commit")
    script.crash()


def a_page_from_before_the_tombstone_comes_after_it(script):
    script.upstream.happens("del", 3)
    for kind in ("rc", "rc", "live"):
        script.walk_on(kind)
    sweep = script.walk_on("whole", "send serve recv")
    script.at(1020)
    script.change(3, 1020, 50)
    slow = script.walk_on("live", "send serve")
    script.upstream.happens("del", 3)
    script.walk_on(sweep, "commit")
    script.instance.step()
    script.walk_on(slow, "recv commit")


def content_goes_there_and_back(script):
    """A slow page shows what content was for a moment; what was there before and after has been read meanwhile."""
    script.at(1019)
    script.change(1, 1019, 50)
    script.at(1020)
    script.change(2, 1020, 40)
    script.at(1022)
    script.walk_on("live")
    script.change(1, 1019, 51)
    slow = script.walk_on("rc", "send serve")
    script.at(1028)
    script.change(1, 1019, 50)
    script.at(1032)
    script.walk_on("whole")
    script.walk_on(slow, "recv commit")
    script.crash()


def two_versions_before_a_backlog(script, first_read):
    """A row changes twice within its late window, and a slow page shows the first change: returns that."""
    script.at(1018)
    script.change(2, 1018, 40)
    if not first_read:
        script.walk_on("live")
    script.at(1019)
    script.change(1, 1019, 50)
    script.at(1020)
    script.change(2, 1020 if first_read else 1018, 40)
    script.at(1021)
    if first_read:
        script.walk_on("live")
    script.at(1025)
    script.change(3, 1025, 30)
    script.at(1026)
    script.change(0, 1026, 20)
    script.change(1, 1019, 51)
    slow = script.walk_on("rc", "send serve")
    script.at(1029)
    script.change(1, 1019, 52)
    script.at(1030)
    script.world.page_limit = 1
    return slow


def a_range_leaves_a_row_that_was_settled(script):
    """A backlog moves `settled`; a range that reads behind it meets what a slow page of another walk brought."""
    slow = two_versions_before_a_backlog(script, True)
    live = script.walk_on("live")
    script.at(1040)
    script.walk_on(live)
    low = script.instance.ranges[-1]
    script.at(1041)
    script.walk_on(low, "send serve")
    script.walk_on(slow, "recv commit")
    return low


def a_range_leaves_a_row(script):
    script.walk_on(a_range_leaves_a_row_that_was_settled(script), "recv commit")
    script.crash()


def a_range_leaves_a_row_during_a_sweep(script):
    low = a_range_leaves_a_row_that_was_settled(script)
    script.world.page_limit = 9
    sweep = script.walk_on("whole", "send serve")
    script.walk_on(low, "recv commit")
    script.walk_on(sweep, "recv commit")
    script.crash()


def live_leaves_a_row_before_a_backlog(script):
    slow = two_versions_before_a_backlog(script, False)
    live = script.walk_on("live")
    script.walk_on(live, "send serve")
    script.walk_on(slow, "recv commit")
    script.walk_on(live, "recv commit")
    script.at(1040)
    script.walk_on(live)
    script.crash()


def a_row_enters_the_time_of_the_clock(script):
    """Behind the place, in the very millisecond that upstream's clock shows."""
    script.at(1020)
    script.world.page_limit = 1
    for key in (2, 3):
        script.change(key, 1020, 40)
    live = script.walk_on("live")
    script.walk_on(live)
    script.change(0, 1020, 50)
    script.at(1021)
    script.walk_on("live")


def a_row_enters_the_time_of_a_place_before_a_backlog(script):
    script.at(1018)
    script.world.page_limit = 1
    for key in (2, 3):
        script.change(key, 1018, 40)
    script.at(1019)
    live = script.walk_on("live")
    script.walk_on(live)
    script.at(1025)
    # Seven milliseconds late, and behind the place.
    script.change(1, 1018, 50)
    script.at(1030)
    script.change(0, 1030, 60)
    script.at(1031)
    script.walk_on("live")


def a_row_is_late_between_two_early_sweeps(script):
    script.at(1018)
    script.change(2, 1018, 40)
    script.at(1021)
    script.walk_on("live")
    script.walk_on("early")
    script.at(1026)
    script.change(1, 1017, 50)
    script.at(1035)
    script.change(3, 1035, 60)
    script.at(1036)
    script.walk_on("live")
    script.walk_on("early")


def a_row_is_late_behind_a_range_before_a_backlog(script):
    """The range of one backlog has read beyond a time that is not due when the next backlog is found."""
    script.world.page_limit = 1
    script.at(1022)
    for key, updated_at in ((2, 1010), (3, 1012), (0, 1021), (4, 1022)):
        script.change(key, updated_at, 40)
    script.at(1024)
    script.walk_on("live")
    rest = script.instance.ranges[0]
    for _ in range(2):
        script.walk_on(rest)
    script.at(1029)
    script.change(1, 1020, 50)
    for key, updated_at in ((5, 1026), (6, 1028)):
        script.change(key, updated_at, 60)
    script.at(1041)
    script.walk_on("live")


def a_row_that_is_dated_ahead_leads_into_a_backlog(script):
    script.world.page_limit = 1
    script.at(1020)
    for key, updated_at in ((2, 1030), (3, 1031)):
        script.change(key, updated_at, 40)
    live = script.walk_on("live")
    script.at(1025)
    script.change(0, 1025, 50)
    script.at(1045)
    script.change(1, 1045, 60)
    script.at(1050)
    script.walk_on(live)


def a_page_from_further_back_comes_after_a_restart(script):
    """A range is resumed within many rows of one time."""
    script.world.page_limit = 1
    script.at(1010)
    for key in range(6):
        script.change(key, 1010, 40)
    script.at(1024)
    script.walk_on("live")
    rest = script.instance.ranges[0]
    for _ in range(2):
        script.walk_on(rest)
    script.restart()
    script.upstream.repeats_page = True
    script.walk_on(script.instance.ranges[0], "send serve recv")
    script.instance.step()


def a_row_is_late_behind_a_walk_that_becomes_a_backlog(script):
    script.world.page_limit = 1
    script.at(1020)
    for key, updated_at in ((2, 1018), (3, 1019)):
        script.change(key, updated_at, 40)
    live = script.walk_on("live")
    script.at(1026)
    script.change(1, 1017, 50)
    script.at(1035)
    script.change(0, 1033, 60)
    script.walk_on(live)


SCRIPTED = {
    "hold": slow_answers_of_two_walks_cross,
    "no_tombtick": a_page_from_before_the_tombstone_comes_after_it,
    "back_again": content_goes_there_and_back,
    "range_left": a_range_leaves_a_row,
    "proof": a_range_leaves_a_row_during_a_sweep,
    "backlog_hold": live_leaves_a_row_before_a_backlog,
    "early_settles": a_row_is_late_between_two_early_sweeps,
    "backlog_ahead": a_row_that_is_dated_ahead_leads_into_a_backlog,
    "resume_held": a_page_from_further_back_comes_after_a_restart,
    "backlog_clock": a_row_is_late_behind_a_walk_that_becomes_a_backlog,
    "backlog_again": a_row_is_late_behind_a_range_before_a_backlog,
    "closed": a_row_enters_the_time_of_the_clock,
    "backlog_incl": a_row_enters_the_time_of_a_place_before_a_backlog,
}
"""Rules whose violation needs an order of events that chance does not find in seconds."""


def plan_events(rng, focus):
    """Which events a play has: many of a few kinds, so that plays differ, and how many."""
    rare = ("late", "ahead", "back", "flip", "del", "reap", "ins", "rc", "crash", "boot2", "dead", "dup", "split", "big", "bulk", "clock")
    left_out = {event for event in rare if rng.random() < 0.4}
    events = [event for event in EVENTS if event not in left_out]
    for event in sorted(set(events)):
        events += [event] * rng.choice((0, 0, 0, 2, 6))
    if rng.random() < 0.6:
        candidates = ("upd", "late", "ahead", "back", "flip", "bulk", "del", "reap", "ins", "dead", "crash")
        some = rng.sample(candidates, rng.choice((1, 2, 3)))
        events = ["pump"] * 8 + "tick tick big rc rc serve send recv".split() + some * 3 + ["late"] * rng.choice((0, 3, 6))
    if focus:
        events = ["pump"] * 8 + ["tick", "tick", "big", "send", "serve", "recv"] + focus.split() * 3
    warm = ["warm"] * rng.choice((0, 1, 1))
    return ["cfg"] + warm + [rng.choice(events) for _ in range(rng.choice((40, 80, 160)))]


def play(flags, seed=None, focus="", steps=None, trace=None):
    """Plays a seed, or replays steps (an event and its picks each; missing picks are 0).

    Returns the promise that broke or None, the steps, and how many versions were written that equal an earlier one of their account
    in time and content (content that went there and back: that is no repetition)."""
    if steps is None:
        return play_seed(flags, seed, focus, trace)
    picks = [iter(())]

    def pick(count):
        return min(next(picks[0], 0), count - 1)

    world = World(pick, flags, trace)
    try:
        for event, recorded in steps:
            picks[0] = iter(recorded)
            step(world, event)
        finish(world)
    except Broken as broken:
        return str(broken), steps, world.kafka.literal_repeats
    return None, steps, world.kafka.literal_repeats


def play_seed(flags, seed, focus, trace):
    rng = random.Random(seed)
    plan = plan_events(rng, focus)
    steps = []

    def pick(count):
        value = rng.randrange(count) if count > 1 else 0
        steps[-1][1].append(value)
        return value

    world = World(pick, flags, trace)
    try:
        for event in plan:
            steps.append((event, []))
            step(world, event)
        finish(world)
    except Broken as broken:
        return str(broken), steps, world.kafka.literal_repeats
    return None, steps, world.kafka.literal_repeats


def shrink(flags, steps, promise):
    """Leaves out steps, larger pieces first, as long as the same promise breaks."""
    size = max(1, len(steps) // 2)
    while True:
        position, has_shrunk = 0, False
        while position < len(steps):
            shorter = steps[:position] + steps[position + size :]
            if play(flags, steps=shorter)[0] == promise:
                steps, has_shrunk = shorter, True
            else:
                position += size
        if size > 1:
            size //= 2
        elif not has_shrunk:
            return steps


class Hunt(NamedTuple):
    played: int
    found: dict
    """By promise, the seeds that broke it."""
    literal_repeats: int
    took: float


def hunt(flags, first, seeds, seconds, stops_at_first=False, focus=""):
    """Plays seed after seed, within a time."""
    begun = time.time()
    found, literal_repeats, played = {}, 0, 0
    for played, seed in enumerate(range(first, first + seeds), 1):
        promise, _, repeats = play(flags, seed=seed, focus=focus)
        literal_repeats += repeats
        if promise:
            found.setdefault(promise, []).append(seed)
        if time.time() - begun > seconds or (stops_at_first and promise):
            break
    return Hunt(played, found, literal_repeats, time.time() - begun)


def run(flags, options):
    """Exit 1 if any promise broke."""
    result = hunt(flags, options.first, options.seeds, options.secs, focus=options.focus)
    violations = {promise: (len(seeds), seeds[:3]) for promise, seeds in result.found.items()}
    print(
        f"{result.played} seeds, {result.took:.0f} s, violations:",
        violations or "none",
        f"literal repeats {result.literal_repeats}",
    )
    sys.exit(bool(result.found))


def show(flags, options):
    promise, steps, _ = play(flags, seed=options.seed, focus=options.focus)
    print("seed", options.seed, promise)
    if promise:
        steps, trace = shrink(flags, steps, promise), []
        play(flags, steps=steps, trace=trace)
        print(len(steps), "steps", *trace, sep="\n")


def matrix(options):
    """What catches each rule that is missing. A line that says NOT caught says that the model is blind there."""
    for kind, names in (("fix left out", FIXES), ("mutation", MUTATIONS)):
        for name in names:
            flags = set(FIXES) ^ {name}
            if name in SCRIPTED:
                as_specified = scripted(set(FIXES), name)
                print(f"{kind:12} {name:18} scripted: {scripted(flags, name)}; as specified: {as_specified}")
                continue
            focus = FOCUS.get(name, "")
            result = hunt(flags, options.first, options.seeds, options.secs, stops_at_first=True, focus=focus)
            said = f"NOT caught, {result.played} seeds, {result.took:.0f} s"
            if result.found:
                promise, seeds = next(iter(result.found.items()))
                said = f"caught by {promise}, seed {seeds[0]}, {result.played} seeds, {result.took:.2f} s"
            print(f"{kind:12} {name:18}", said, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "show", "matrix"))
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=10**9, help="how many")
    parser.add_argument("--secs", type=int, default=60, help="how long at most")
    parser.add_argument("--seed", type=int, default=0, help="the one to show")
    parser.add_argument("--fixes", default="all", help="all, none, or names separated by commas")
    parser.add_argument("--without", default="", help="fixes to leave out, separated by commas")
    parser.add_argument("--mutate", default="", help="mutations to put in, separated by commas")
    parser.add_argument("--focus", default="", help="events to favour, separated by spaces")
    options = parser.parse_args()
    fixes = {"all": set(FIXES), "none": set()}.get(options.fixes)
    if fixes is None:
        fixes = set(options.fixes.split(","))
    without = set(filter(None, options.without.split(",")))
    mutations = set(filter(None, options.mutate.split(",")))
    for names, known in ((fixes | without, FIXES), (mutations, MUTATIONS)):
        for name in sorted(names - set(known)):
            parser.error(f"no such rule: {name}; there are {', '.join(known)}")
    flags = fixes - without | mutations
    if options.command == "run":
        run(flags, options)
    elif options.command == "show":
        show(flags, options)
    else:
        matrix(options)


if __name__ == "__main__":
    main()
