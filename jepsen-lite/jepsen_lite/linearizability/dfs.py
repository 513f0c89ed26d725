"""Depth-first search for an order of operations (Wing and Gong 1993; list of entries and memo after Lowe 2017).

A configuration is what has been ordered so far and the state it led to. What may come next are the operations called
before the first return of an operation that is not ordered yet. Six things keep the number of configurations small:

1. A step that ``keeps`` the state is ordered as soon as it is legal. Moving it to the front of any order changes
   nothing for the others. This would be wrong for a step that merely does not change the state *here*.
2. Operations are numbered by call. What is ordered is then the first missing number and a short mask of later ones.
3. Indeterminate operations with equal ``f`` and ``arg`` are used earliest call first: they have no return, so the
   earliest one is always at least as good. They are tried last, and not where they change nothing.
4. A configuration that failed with some indeterminate operations used fails with more of them used.
5. What nobody noticed was taken out beforehand, and times were narrowed (``Model.simplify``).
6. A pending step that is ``hopeless`` ends its configuration: it has to be ordered some time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, Literal, NamedTuple

from jepsen_lite.linearizability.model import Problem, S
from jepsen_lite.linearizability.operations import Decision, Verdict

Order = Literal["call", "return"]
"""What to try first among the operations that may come next."""


class _Group(NamedTuple, Generic[S]):
    """Indeterminate operations with equal ``f`` and ``arg``. Used ones are the lowest bits of ``mask``."""

    apply: Callable[[S], S | None]
    calls: list[float]
    members: list[int]
    shift: int
    mask: int


class _Frame(Generic[S]):
    """One configuration on the way from the beginning to where the search is."""

    __slots__ = ("absorbed", "candidates", "chosen", "first", "later", "next", "state", "used")

    def __init__(self, state: S, used: int, first: int, later: int) -> None:
        self.state = state
        self.used = used
        """Indeterminate operations, one bit each."""
        self.first = first
        """Number of the first determinate operation that is not ordered."""
        self.later = later
        """Bit n: operation ``first + n`` is ordered."""
        self.absorbed: list[int] = []
        """Steps that keep the state, ordered on entry."""
        self.candidates: list[int] = []
        self.next = 0
        """Position in the candidates, then in the groups."""
        self.chosen = -1
        """The candidate whose configuration is the next frame; -1 - member for an indeterminate one."""


class Search(Generic[S]):
    """``run`` may be called again with a higher limit and goes on where it stopped."""

    def __init__(self, problem: Problem[S], order: Order = "call") -> None:
        self.steps = 0
        """Configurations entered."""
        self._problem = problem
        self._by_return = order == "return"
        self._number_operations()
        self._link_entries()
        self._failed: set[tuple[int, int, Hashable]] = set()
        self._failed_using: dict[tuple[int, int, Hashable], list[int]] = {}
        self._stack: list[_Frame[S]] = []
        self._verdict: Verdict = "unknown"
        self._entering: _Frame[S] | None = _Frame(problem.initial, 0, 0, 0)
        self._furthest = (-1, -1)
        """(determinate operations ordered, entry of the first return) of the configuration that got furthest."""

    def run(self, steps_max: int) -> Decision:
        """Search until decided or until ``steps`` has reached ``steps_max``."""
        while self._verdict == "unknown" and self.steps < steps_max:
            entering = self._entering
            if entering is not None:
                self._entering = None
                self.steps += 1
                self._stack.append(entering)
                if not self._enter(entering):
                    entering.next = -1
                elif self._next[0] == self._end:
                    self._verdict = "valid"
            elif not self._stack:
                self._verdict = "invalid"
            elif not self._choose(self._stack[-1]):
                self._leave()
        return self._decision()

    # setting up

    def _number_operations(self) -> None:
        problem = self._problem
        self._members = [at for at, op in enumerate(problem.ops) if op.ret is not None]
        """Determinate operations by number: position in the problem."""
        self._steps = [problem.steps[at] for at in self._members]
        self._apply = [step.apply for step in self._steps]
        self._keeps = [step.keeps for step in self._steps]
        groups: dict[tuple[str, Hashable], list[int]] = {}
        for at, op in enumerate(problem.ops):
            if op.ret is None:
                groups.setdefault((op.f, op.arg), []).append(at)
        self._groups: list[_Group[S]] = []
        shift = 0
        for members in groups.values():
            calls = [problem.ops[at].call for at in members]
            mask = (1 << len(members)) - 1
            self._groups.append(_Group(problem.steps[members[0]].apply, calls, members, shift, mask))
            shift += len(members)

    def _link_entries(self) -> None:
        """Calls and returns in order of time as a doubly linked list; entry 0 is before the first."""
        ops = [self._problem.ops[at] for at in self._members]
        entries = [(op.call, 0, number) for number, op in enumerate(ops)]
        # At equal times calls come first: touching intervals are concurrent.
        entries += [(op.ret, 1, number) for number, op in enumerate(ops) if op.ret is not None]
        entries.sort()
        self._end = len(entries) + 1
        self._who = [-1] * (self._end + 1)
        """Number of the operation called at each entry; -1 for a return."""
        self._returned_at = [0.0] * (self._end + 1)
        self._returning = [-1] * (self._end + 1)
        self._call = [0] * len(ops)
        self._return = [0] * len(ops)
        for entry, (time, is_return, number) in enumerate(entries, start=1):
            if is_return:
                self._return[number] = entry
                self._returned_at[entry], self._returning[entry] = time, number
            else:
                self._call[number] = entry
                self._who[entry] = number
        self._next = list(range(1, self._end + 2))
        self._previous = list(range(-1, self._end))

    # configurations

    def _enter(self, frame: _Frame[S]) -> bool:
        """Order what keeps the state and gather what may come next. False if the configuration cannot succeed."""
        following, who, apply, keeps, state = self._next, self._who, self._apply, self._keeps, frame.state
        candidates = frame.candidates
        hopeless = False
        entry = following[0]
        while (number := who[entry]) >= 0:
            if not keeps[number]:
                candidates.append(number)
            elif apply[number](state) is not None:
                self._take(frame, number)
                frame.absorbed.append(number)
            elif (never := self._steps[number].hopeless) is not None and never(state):
                hopeless = True
                break
            entry = following[entry]
        # A mask without its lowest ones, so that equal sets have equal names.
        ones = ((frame.later + 1) & ~frame.later).bit_length() - 1
        frame.first += ones
        frame.later >>= ones
        done = frame.first + frame.later.bit_count()
        if done > self._furthest[0]:
            self._furthest = (done, entry if not hopeless else self._return[who[entry]])
        if hopeless or self._is_known(frame):
            return False
        if self._by_return:
            candidates.sort(key=self._return.__getitem__)
        return True

    def _is_known(self, frame: _Frame[S]) -> bool:
        """Whether a configuration at least as good was entered before. If not, this one is noted.

        On entry and not on failure: the one noted is either still on the stack or has failed, and as long as it is on
        the stack everything that can be reached from here is tried from there.
        """
        name = (frame.first, frame.later, frame.state)
        if not self._groups:
            if name in self._failed:
                return True
            self._failed.add(name)
            return False
        used = frame.used
        known = self._failed_using.get(name)
        if known is None:
            self._failed_using[name] = [used]
            return False
        if any(fewer & ~used == 0 for fewer in known):
            return True
        known[:] = [other for other in known if used & ~other != 0]
        known.append(used)
        return False

    def _choose(self, frame: _Frame[S]) -> bool:
        """Enter the next configuration that can follow. False if there is none."""
        if frame.next < 0:
            return False
        state, candidates, apply = frame.state, frame.candidates, self._apply
        while frame.next < len(candidates):
            number = candidates[frame.next]
            frame.next += 1
            after = apply[number](state)
            if after is not None:
                frame.chosen = number
                following = _Frame(after, frame.used, frame.first, frame.later)
                self._take(following, number)
                self._entering = following
                return True
        return self._choose_indeterminate(frame)

    def _choose_indeterminate(self, frame: _Frame[S]) -> bool:
        bound = self._returned_at[self._first_return()]
        while (position := frame.next - len(frame.candidates)) < len(self._groups):
            frame.next += 1
            group = self._groups[position]
            count = ((frame.used >> group.shift) & group.mask).bit_length()
            if count == len(group.calls) or group.calls[count] > bound:
                continue
            after = group.apply(frame.state)
            if after is not None and after != frame.state:
                frame.chosen = -1 - group.members[count]
                used = frame.used | 1 << (group.shift + count)
                self._entering = _Frame(after, used, frame.first, frame.later)
                return True
        return False

    def _first_return(self) -> int:
        entry = self._next[0]
        while self._who[entry] >= 0:
            entry = self._next[entry]
        return entry

    def _leave(self) -> None:
        """Give the configuration on top up, and undo the choice that led to it."""
        for number in reversed(self._stack.pop().absorbed):
            self._put_back(number)
        if self._stack and self._stack[-1].chosen >= 0:
            self._put_back(self._stack[-1].chosen)

    def _take(self, frame: _Frame[S], number: int) -> None:
        following, previous = self._next, self._previous
        # The return first: a call directly before its return must end up pointing behind both.
        for entry in (self._return[number], self._call[number]):
            before, after = previous[entry], following[entry]
            following[before], previous[after] = after, before
        frame.later |= 1 << (number - frame.first)

    def _put_back(self, number: int) -> None:
        following, previous = self._next, self._previous
        for entry in (self._call[number], self._return[number]):
            following[previous[entry]] = previous[following[entry]] = entry

    # the result

    def _decision(self) -> Decision:
        positions = self._problem.positions
        if self._verdict == "valid":
            return Decision("valid", self.steps, tuple(positions[at] for at in self._ordered()))
        entry = self._furthest[1]
        stuck = positions[self._members[self._returning[entry]]] if entry >= 0 else None
        return Decision(self._verdict, self.steps, stuck=stuck)

    def _ordered(self) -> list[int]:
        found: list[int] = []
        for frame in self._stack:
            found += (self._members[number] for number in frame.absorbed)
            if frame is not self._stack[-1]:
                found.append(self._members[frame.chosen] if frame.chosen >= 0 else -1 - frame.chosen)
        return found
