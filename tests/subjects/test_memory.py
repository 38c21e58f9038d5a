"""Memory is what was held at most, though it has been given back since."""

from parity.subjects.memory import used, used_on_device, watched

LARGE = 64 << 20


def test_most_that_was_used_is_seen_after_it_is_gone():
    before = used()
    with watched() as most:
        held = bytearray(b"x" * LARGE)
        while most() < before + LARGE // 2:  # it looks again and again
            pass
        del held
    assert most() >= before + LARGE // 2


def test_nothing_is_said_of_a_device_that_nothing_has_used():
    assert used_on_device() == 0
