"""The ONNX lines shared by the function bodies: packed planes to words and their table."""

from sardonyx.runtime_ops.packing import LAYOUTS, Layout


def decode_lines(bits: int, grouped: bool) -> str:
    """Lines from ``planes`` uint8 [..., bits, X] and ``centroids`` to ``codes`` and ``table``.

    ``codes`` int32 [..., words, X]: each word as one integer. ``table`` [members, count], in the
    dtype of ``centroids``: the members of every possible word. Also defines the int64 scalars
    ``zero``, ``one``, ``members`` and ``count`` (2^(members bits), the words there can be).

    A small integer matrix product adds up the fields of a word, field t of a plane being
    ``(plane >> width t) - 2^width (plane >> width (t + 1))``.

    ``grouped``: there may be several tables of centroids. Then `group_lines` makes table, codes and
    count of what these lines leave to it.
    """
    layout = LAYOUTS[bits]
    codes, count = ("group_codes", "group_count") if grouped else ("codes", "count")
    tables = [] if grouped else _TABLE
    return "\n".join([*_code_lines(layout, codes), *_word_lines(layout, count), *tables])


_TABLE = [
    "flat = Constant <value_ints = [-1]> ()",
    "centroid_list = Reshape (centroids, flat)",
    "table = Gather (centroid_list, digits)",
]


def group_lines(columns: str) -> str:
    """Lines that make ``table`` of all tables, side by side, and ``codes`` that count from its
    start; ``count``: the words in it.

    ``of_column``, int64, says of which column of W each code is, in a shape that spreads over the
    codes; ``columns`` names the number N of them. Columns of the padding may be beyond it.
    """
    return f"""tables = Gather <axis = 1> (centroids, digits)
  member_tables = Transpose <perm = [1, 0, 2]> (tables)
  table = Flatten <axis = 1> (member_tables)
  centroids_shape = Shape (centroids)
  groups = Gather (centroids_shape, zero)
  count = Mul (groups, group_count)
  last_group = Sub (groups, one)
  filled_columns = Add ({columns}, last_group)
  group_width = Div (filled_columns, groups)
  far_group = Div (of_column, group_width)
  group = Min (far_group, last_group)
  first_word = Mul (group, group_count)
  first_code = Cast <to = 6> (first_word)
  codes = Add (group_codes, first_code)"""


def described_tables(bits: int, grouped: bool) -> str:
    """What indices point into, in the words of a doc string."""
    size = f"{1 << bits} `centroids`"
    return f"tables of {size}, one for each group" if grouped else f"a table of {size}"


def _code_lines(layout: Layout, name: str) -> list[str]:
    """Each word as one integer, under a name."""
    if len(layout.fields) == 1:
        return [f"{name} = Cast <to = 6> (planes)"]
    sources, shifts, mix = _mix(layout)
    # from 128: before 1.24, onnxruntime multiplies no int8 by uint8
    factors = [128 + factor for row in mix for factor in row]
    return [
        f"sources = Constant <value_ints = {sources}> ()",
        f"shifts = Constant <value = uint8[{len(shifts)}, 1] {_braces(shifts)}> ()",
        "copies = Gather <axis = -2> (planes, sources)",
        'shifted = BitShift <direction = "RIGHT"> (copies, shifts)',
        "parts = Concat <axis = -2> (planes, shifted)",
        f"mix = Constant <value = uint8[{len(mix)}, {len(mix[0])}] {_braces(factors)}> ()",
        "mix_zero = Constant <value = uint8 {128}> ()",
        f"{name} = MatMulInteger (mix, parts, mix_zero)",
    ]


def _mix(layout: Layout) -> tuple[list[int], list[int], list[list[int]]]:
    """Planes to shift, by how much, and the factors [words, planes + shifted] that add up words."""
    main, *rest = layout.fields
    rows = [[0] * layout.bits for _ in range(layout.words)]
    for word, row in enumerate(rows):
        row[main.plane + word] = 1 << main.shift
    sources, shifts = [], []
    for field in rest:
        a_byte = 8 // field.width
        for plane in range(field.plane, field.plane + field.planes):
            columns = [plane]
            for t in range(1, a_byte):
                sources.append(plane)
                shifts.append(field.width * t)
                columns.append(layout.bits + len(sources) - 1)
                for row in rows:
                    row.append(0)
            for t, column in enumerate(columns):
                word = (plane - field.plane) * a_byte + t
                rows[word][column] = 1 << field.shift
                if t + 1 < a_byte:
                    rows[word][columns[t + 1]] = -(1 << (field.shift + field.width))
    return sources, shifts, rows


def _word_lines(layout: Layout, count: str) -> list[str]:
    """The indices in every possible word; their number under a name."""
    steps = [1 << (layout.bits * j) for j in range(layout.members)]
    return [
        "zero = Constant <value_int = 0> ()",
        "one = Constant <value_int = 1> ()",
        f"members = Constant <value_int = {layout.members}> ()",
        f"{count} = Constant <value_int = {1 << (layout.members * layout.bits)}> ()",
        f"words = Range (zero, {count}, one)",
        f"steps = Constant <value = int64[{layout.members}, 1] {_braces(steps)}> ()",
        "quotients = Div (words, steps)",
        f"base = Constant <value_int = {1 << layout.bits}> ()",
        "digits = Mod (quotients, base)",
    ]


def _braces(values: list[int]) -> str:
    return "{" + ", ".join(map(str, values)) + "}"
