"""What a compiled program consists of: its operations, beyond those of the tape, and the columns of an instruction."""

DOT, SUM, DOT_TARGET, MUL_TARGET = range(11, 15)
"""Operations beyond those of the tape; the last two depend on the target of their position."""

# The columns of an instruction. It is done COUNT times; the places of its result and operands move on by D_DST,
# D_LEFT and D_RIGHT each time. An operand is SIZE slots, S_LEFT or S_RIGHT apart; with GATHER they follow no rule,
# and LEFT and RIGHT point to SIZE entries of a table instead.
OP, COUNT, DST, D_DST, LEFT, D_LEFT, RIGHT, D_RIGHT, SIZE, S_LEFT, S_RIGHT, GATHER, POSITION = range(13)
COLUMNS = 13
