"""C text of loops over sums in integers (see fixed_point.py), with the float sum where they are not certain."""

from collections.abc import Sequence

from students.c.expressions import Constant, Lookup
from students.c.fixed_point import FixedSum, Term, WriteConstant
from students.c.lines import print_while
from students.c.text import NameTable, Writer, print_float


class FixedLoops:
    """Writes the loops of one step.

    Args:
        name_table: the name of the float table of a function.
    """

    def __init__(self, name_table: NameTable) -> None:
        self.name_table = name_table
        self.outside: list[str] = []
        """What the step declares before its loops over channels: tables of integers."""

    def print_loop(
        self, fixed: FixedSum, writer: Writer, count: int, body: Sequence[str]
    ) -> list[str]:
        """Return declarations for a channel, and the loop over its positions.

        Args:
            fixed: what they are.
            writer: writes the statement.
            count: number of positions.
            body: computes `codes[i]` in float.
        """
        write = _bind(writer)
        terms = [
            f"{{{self._declare(each)}, {writer.write_address(each.source, 'c')}, "
            f"{fixed.print_factor(number, write)}}}"
            for number, each in enumerate(fixed.terms)
        ]
        rounded = f"terms, offset, 0x{fixed.certain:X}, i, {count}, codes"
        call = f"round_sums_of_{len(terms)}({rounded})"
        declared = [
            f"const fixed_term terms[] = {{{', '.join(terms)}}};",
            f"const int32_t offset = {fixed.print_offset(write)};",
        ]
        return [*declared, *print_while("i", call, count, body)]

    def print_table(self, fixed: FixedSum, writer: Writer, body: Sequence[str]) -> list[str]:
        """Return the loop over the codes of a sum of one term; the body computes `table[code]` in float."""
        write = _bind(writer)
        (term,) = fixed.terms
        declared = [
            f"const int32_t factor = {fixed.print_factor(0, write)};",
            f"const int32_t offset = {fixed.print_offset(write)};",
        ]
        rounded = f"{self._declare(term)}, factor, offset, 0x{fixed.certain:X}, code, table"
        return [*declared, *print_while("code", f"round_table({rounded})", 256, body)]

    def _declare(self, term: Term) -> str:
        """Return the name of a term's table of integers."""
        leaf = term.leaf
        if isinstance(leaf, Lookup):
            table = self.name_table(leaf.function, leaf.grid)
            name, fill = f"{table}_fixed", f"fill_fixed({table}, {print_float(2.0**term.shift)},"
        else:
            name = f"codes_less_{leaf.grid.zero}"
            fill = f"fill_fixed_codes({leaf.grid.zero}, {1 << term.shift},"
        lines = [f"int32_t {name}[256];", f"{fill} {name});"]
        self.outside += [line for line in lines if line not in self.outside]
        return name


def _bind(writer: Writer) -> WriteConstant:
    def write(constant: Constant) -> str:
        return writer.write(constant, "c", "i")

    return write
