"""Functions that need no measuring: a few operations on numbers, without a call or a loop."""

from __future__ import annotations

from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HARMLESS = (
    "CACHE RESUME NOP COPY SWAP POP_TOP PUSH_NULL EXTENDED_ARG "
    "LOAD_FAST LOAD_FAST_BORROW LOAD_FAST_LOAD_FAST LOAD_FAST_BORROW_LOAD_FAST_BORROW "
    "LOAD_FAST_CHECK LOAD_FAST_AND_CLEAR STORE_FAST STORE_FAST_LOAD_FAST STORE_FAST_STORE_FAST "
    "LOAD_CONST LOAD_SMALL_INT RETURN_VALUE RETURN_CONST BINARY_OP COMPARE_OP IS_OP "
    "UNARY_NEGATIVE UNARY_NOT UNARY_INVERT TO_BOOL NOT_TAKEN BUILD_TUPLE "
    "POP_JUMP_IF_FALSE POP_JUMP_IF_TRUE POP_JUMP_IF_NONE POP_JUMP_IF_NOT_NONE "
    "POP_JUMP_FORWARD_IF_FALSE POP_JUMP_FORWARD_IF_TRUE POP_JUMP_FORWARD_IF_NONE "
    "POP_JUMP_FORWARD_IF_NOT_NONE JUMP_FORWARD"
)
_NUMBERS = (int, float, bool, type(None))
_OPERATIONS_MAX = 60
_LOOKED_AT = 100


def is_trivial(fn: Any, inputs: Any) -> bool:
    """Whether `fn` is a few operations on numbers, without a call or a loop.

    It takes less than sending its input would, and can harm nobody: no need to measure it.
    Powers and shifts are left out, for they can make a number of any size.
    """
    code = getattr(fn, "__code__", None)
    if code is None or len(code.co_code) > 8 * _OPERATIONS_MAX or code.co_flags & 0x2A0:
        return False
    constants = [constant for constant in code.co_consts if constant is not fn.__doc__]
    if not all(type(constant) in _NUMBERS for constant in constants):
        return False
    if type(inputs) is range:
        small = abs(inputs.start) < 1 << 63 and abs(inputs.stop) < 1 << 63
        return small and _is_harmless(code)
    if type(inputs) not in (list, tuple) or not inputs:
        return False
    some = islice(inputs, _LOOKED_AT)
    return all(_is_small(value) for value in some) and _is_harmless(code)


def _is_small(value: Any) -> bool:
    return type(value) in (float, bool) or (type(value) is int and abs(value) < 1 << 63)


def _is_harmless(code: Any) -> bool:
    import opcode

    names = _HARMLESS.split()
    operations = getattr(opcode, "_nb_ops", [])
    raw = code.co_code
    for place in range(0, len(raw), 2):
        name = opcode.opname[raw[place]]
        if name not in names:
            return False
        if name == "BINARY_OP":
            symbol = operations[raw[place + 1]][1] if raw[place + 1] < len(operations) else "?"
            if symbol.rstrip("=") not in ("+", "-", "*", "/", "//", "%", "&", "|", "^"):
                return False
    return True
