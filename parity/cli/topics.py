"""What the help of a command tells besides its options, already as wide as it is to be."""

ACCEPTED_CHANGES = """accepted changes:
  A change of the function is DIVERGED, whoever meant it, until it is accepted:
  1. Add --accept "why" to the very command that fails. An entry is of one
     subject, one case (--steps, sizes, --only-case, ...) and one --dtype, and
     counts for no other. It holds sums of what base and head answer, not the
     code: it knows the change on any machine, rebased, squashed or rounded
     otherwise, and no other one.
  2. Review parity-accepted.json and commit it with the change. Committed or
     not, the gate now passes, and still says DIVERGED, accepted as intended.
  3. If head or base changes once more, the entry no longer applies: the gate
     fails, and says in what head is not what was accepted. Accept anew.
  4. Once merged, base has the change. The gate compares as ever: rounding
     passes, other changes do not. A quiet line names the entry.
  5. The next --accept for this subject, case and format takes its place. You
     may delete it before: a gate then says first, as a warning, that both
     sides differ from the reference alike.

"""
