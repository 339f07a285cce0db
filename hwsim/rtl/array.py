"""Processing elements with a shadow weight each, and the wires between them.

Ifmap values move right, psums move down; row r is r cycles behind row 0, and column c is c cycles
behind column 0 (Kung, IEEE Computer 15(1), 1982). Weights of the next tile move down the shadow
plane meanwhile, and go live PE by PE behind the first row of values that needs them (as in TPU v1:
Jouppi et al., ISCA 2017, Sec. 2).
"""

from __future__ import annotations

from amaranth import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

OPERAND_BITS = 8  # of a weight and of an ifmap value, two's complement
PSUM_BITS = 32


def delayed(m: Module, value: Value, cycles: int) -> Value:
    """The value as it was so many cycles ago; zero before that."""
    for _ in range(cycles):
        register = Signal.like(value)
        m.d.sync += register.eq(value)
        value = register
    return value


class ProcessingElement(wiring.Component):
    """One multiply-accumulate a cycle.

    shift: the shadow weight is replaced by the one from above. live: the shadow weight is in use
    from this cycle on. `total` is the psum within the cycle, `psum_out` a cycle later.
    """

    def __init__(self) -> None:
        operand, psum = signed(OPERAND_BITS), signed(PSUM_BITS)
        super().__init__(
            {
                "value": In(operand),
                "live": In(1),
                "shift": In(1),
                "shadow_in": In(operand),
                "psum_in": In(psum),
                "value_out": Out(operand),
                "live_out": Out(1),
                "shift_out": Out(1),
                "shadow": Out(operand),
                "psum_out": Out(psum),
                "total": Out(psum),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held, weight = Signal(signed(OPERAND_BITS)), Signal(signed(OPERAND_BITS))
        m.d.comb += [
            weight.eq(Mux(self.live, self.shadow, held)),
            self.total.eq(self.psum_in + self.value * weight),
        ]
        m.d.sync += [
            held.eq(weight),
            self.psum_out.eq(self.total),
            self.value_out.eq(self.value),
            self.live_out.eq(self.live),
            self.shift_out.eq(self.shift),
        ]
        with m.If(self.shift):
            m.d.sync += self.shadow.eq(self.shadow_in)
        return m


class PeArray(wiring.Component):
    """rows x cols PEs. What enters is in step: the skews are made here.

    values: an ifmap value for each row. live: they are the first to meet the shadow plane.
    weights: one of each column, bottom row of the tile first. shift: row r takes the weight above
    it. totals: psums of the bottom row, column c `rows - 1 + c` cycles behind its values.
    """

    def __init__(self, rows: int, cols: int) -> None:
        self.rows, self.cols = rows, cols
        super().__init__(
            {
                "values": In(signed(OPERAND_BITS)).array(rows),
                "live": In(1),
                "weights": In(signed(OPERAND_BITS)).array(cols),
                "shift": In(rows),
                "totals": Out(signed(PSUM_BITS)).array(cols),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        grid = [[ProcessingElement() for _ in range(self.cols)] for _ in range(self.rows)]
        for r, row in enumerate(grid):
            for c, pe in enumerate(row):
                m.submodules[f"pe_{r}_{c}"] = pe
                if c == 0:
                    m.d.comb += [
                        pe.value.eq(delayed(m, self.values[r], r)),
                        pe.live.eq(delayed(m, self.live, r)),
                        pe.shift.eq(self.shift[r]),
                    ]
                else:
                    left = row[c - 1]
                    m.d.comb += [
                        pe.value.eq(left.value_out),
                        pe.live.eq(left.live_out),
                        pe.shift.eq(left.shift_out),
                    ]
                if r == 0:
                    m.d.comb += pe.shadow_in.eq(delayed(m, self.weights[c], c))
                else:
                    above = grid[r - 1][c]
                    m.d.comb += [pe.shadow_in.eq(above.shadow), pe.psum_in.eq(above.psum_out)]
        m.d.comb += Cat(*self.totals).eq(Cat(*(pe.total for pe in grid[-1])))
        return m
