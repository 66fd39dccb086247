"""Choose the class column of a table: score each column by stated rules and refuse a tie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featherweight.data.csv_file import Table, examples
from featherweight.data.detect.folder_roles import words
from featherweight.data.detect.sample_submission import SampleSubmission, numbers_of, shapes
from featherweight.data.detect.split_column import FLAG
from featherweight.data.detect.table_refusals import regression
from featherweight.data.label_rows import LISTED, NO, YES, is_signed
from featherweight.errors import UserError, nearest

NAMED = re.compile(
    r"^(labels?|class(es)?|target|category|categories|species|breed|diagnos[ie]s|tags?|dx|y|variety|cultivar|"
    r"class_?(name|id|label)s?|label_?(name|id)s?|category_?(name|id)s?|target_?class|finding_?labels?|findings?|"
    r"disease|condition|emotion|genre|brand|attribute_ids?|identity|individual_?id|landmark_?id|hotel_?id|whale_?id|"
    r"is_\w+|has_\w+|ground_?truth|level|grade|severity|kind|style|artist|expression|letter|digit|gesture|sign)$"
)
STRONGER = re.compile(
    r"^(labels?|class(es)?|target|category|class_?(name|id|label)s?|label_?(name|id)|category_?id|ground_?truth)$"
)
UNNAMED = re.compile(rf"{STRONGER.pattern}|^({FLAG.pattern})$")  # stronger, or says parts of the data
METADATA = re.compile(r"\w+_type|type|name|index|id|order")
ABOUT = re.compile(  # the words of metadata's names, whole: neither damAGE nor canDIDATE
    r"(image|img|file|patient|original|birth|study|user)?(sex|gender|ages?|widths?|heights?|dates?|(date)?times?|"
    r"timestamps?|years?|months?|urls?|licen[cs]es?|rights|holders?|locations?|lat(itude)?|lon(gitude)?|lng|cameras?|"
    r"devices?|sites?|sources?|hash|patients?|subjects?|sessions?|views?|laterality|sides?|sizes?|folds?|splits?|usage|"
    r"users?|comments?|locali[sz]ation|anatom\w+|institutions?|machines?|implants?|roi|bbox|[xy](min|max)|counts?|scores?|"
    r"weights?|prices?|seq\w*|supercategory|genus|family|spacing|follow|unnamed)(ids?)?"
)
SET_HEADING = re.compile(r"^(tags|attribute_ids|labels|attributes|classes|categories)$")
TAG_HEADING = re.compile(r"^(tags|attribute_ids|attributes)$")  # of which an image has several, whatever separates them
BARRED = re.compile(r"^finding[ _]labels$")  # as the chest X-rays of the NIH have them: Effusion|Mass
NOTHING = ("nan", "na", "n/a", "null", "none")  # what programs write where there is no number
LEAST, LEAD = 30, 10  # points the best column has at least, and before the next one
SEPARATORS = ("|", " ", ",", ";")


class UnclearError(UserError):
    """Several columns may be the class, and none is likely to be."""


class TieError(UnclearError):
    """Several columns are equally likely to be the class."""


@dataclass
class Column:
    """A column with its score as the class column, and the reasons for it."""

    name: str
    values: list[str]
    points: int = 0
    reasons: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = Counter(value for value in self.values if value)

    @property
    def distinct(self) -> int:
        """The number of different values, not counting blanks."""
        return len(self.counts)

    @property
    def binary(self) -> bool:
        """True if all values mean yes or no."""
        return self.distinct >= 1 and ({name.lower() for name in self.counts} <= {*YES, *NO} or is_signed(self.counts))

    @property
    def measured(self) -> bool:
        """True if the values are numbers with fractions, which are no classes."""
        numbers = numbers_of([value for value in self.counts if value.lower() not in NOTHING])
        return numbers is not None and any(number != round(number) for number in numbers)

    def add(self, points: int, reason: str) -> None:
        """Add points to the score (negative: against the column) and note the reason."""
        self.points += points
        self.reasons.append(reason)

    def described(self) -> str:
        """Return the column's name, the number of its values and some of them."""
        return f"{self.name} ({self.distinct:,} values: {examples(list(self.counts), 3)})"


@dataclass(frozen=True)
class Context:
    """What is known besides the table when the class column is chosen."""

    sample: SampleSubmission | None
    features: frozenset[str]  # the columns of tables that list the images to predict: known there, so not the class
    has_test: bool
    folders: Sequence[str] = ()  # the folder that each row's image lies in, where that may be its class
    likely: str | None = None  # the label column of a known competition


def choose(table: Table, used: Sequence[str], context: Context, named: str | None) -> tuple[Column, list[Column]]:
    """Return the class column and the other candidates, best first; `named` is the user's choice.

    Raises UserError with the candidates where none, or more than one, stands out.
    """
    columns = [Column(name, [value.strip() for value in table.column(name)]) for name in table.header]
    if named is not None:
        if named not in table.header:
            listed = ", ".join(table.header[:12])
            raise UserError(
                f"--label {named}: {table.path} has no such column{nearest(named, table.header)}; there are {listed}"
            )
        if named in used:
            raise UserError(f"--label {named}: {table.path} has the names of the images there, no classes")
        return next(column for column in columns if column.name == named), []
    free = [column for column in columns if column.name not in used]
    candidates = [column for column in free if column.distinct >= 2] or [
        c for c in free if STRONGER.search(c.name.lower())
    ]
    for column in candidates:
        _weigh(column, len(table.rows), context)
    ranked = sorted((c for c in candidates if c.points > -30), key=lambda c: (-c.points, c.name))
    measured = [column.name for column in candidates if column.measured]
    if measured and (not ranked or (ranked[0].points < LEAST and ranked[0].measured)):
        raise regression(table, measured[0])
    if not ranked:
        raise UserError(
            f"{table.path}: no column can be the class: {', '.join(table.header[:10])}; pass --label COLUMN"
        )
    best, others = ranked[0], ranked[1:]
    rivals = [c for c in others if c.points > best.points - LEAD and not _same(c, best)]
    unlikely = best.points < 0 and numbers_of(list(best.counts)) is not None
    differ = any(not _same(c, best) for c in others)
    if others and not differ:
        best.add(0, "the others divide the rows alike")
    if (best.points < LEAST and (differ or unlikely)) or rivals:
        more = ", or several by commas where each is a class" if sum(c.binary for c in ranked) > 1 else ""
        shown = [column.described() for column in [best, *(rivals or others)][:4]]
        refusal = TieError if best.points >= LEAST else UnclearError
        listed = "\n  ".join([f"{table.path}: cannot tell which column is the class:", *shown[:3]])
        raise refusal(f"{listed}\npass --label COLUMN{more}")
    same = [c for c in (best, *others) if _same(c, best) and c.points >= best.points - LEAD]
    chosen = max(same, key=lambda c: (c.points, numbers_of(list(c.counts)) is None))
    return chosen, sorted((c for c in candidates if c is not chosen), key=lambda c: (-c.points, c.name))[:4]


def _same(one: Column, other: Column) -> bool:
    """True if two columns divide the rows in the same way."""
    if one is other:
        return True
    pairs = {pair for pair in zip(one.values, other.values, strict=True) if all(pair)}
    return len(pairs) == one.distinct == other.distinct


def _weigh(column: Column, rows: int, context: Context) -> None:
    name = column.name.strip().lower().replace(" ", "_")
    rules: tuple[tuple[bool, int, str], ...] = (
        (bool(STRONGER.search(name)), 45, "is called a label"),
        (
            bool(NAMED.search(name)) and not (STRONGER.search(name) or FLAG.fullmatch(name)),
            35,
            "is called as classes are",
        ),
        (_is_metadata(column.name, name) and not NAMED.search(name), -25, "is called as metadata are"),
        (column.name == context.likely, 100, "is known of the competition"),
        (column.distinct > max(2, rows // 2), -40, "hardly any value appears twice"),
        (column.measured, -60, "has fractions"),
        (context.has_test and column.name in context.features, -45, "is known of the images to predict"),
        (context.has_test and column.name not in context.features, 25, "is not known of the images to predict"),
        (bool(context.folders) and _divides_alike(column, context.folders), 40, "agrees with the folders"),
    )
    for holds, points, reason in rules:
        if holds:
            column.add(points, reason)
    if context.sample is not None:
        _weigh_by_sample(column, context.sample)


def _is_metadata(heading: str, name: str) -> bool:
    return bool(METADATA.fullmatch(name)) or any(ABOUT.fullmatch(word.lower()) for word in words(heading))


def _weigh_by_sample(column: Column, sample: SampleSubmission) -> None:
    if len(sample.columns) == 1 and column.name.lower() == sample.columns[0].lower():
        column.add(100, "is named in the sample submission")
    elif len(sample.columns) > 2 and set(sample.columns) == set(column.counts):
        column.add(100, "has the columns of the sample submission as its values")
    if len(sample.columns) != 1:
        return
    tokens = {token for value in sample.distinct[:500] for token in (value, *value.split())}
    known = {token for value in column.counts for token in (value, *re.split(r"[ |,;]", value))}
    names = [token for token in tokens if numbers_of([token]) is None]
    if names and any(token in known for token in names):
        column.add(70, "has values of the sample submission")
    elif names and shapes(sample.distinct[0].split()) == shapes(list(column.counts)[:50]):
        column.add(40, "has values like those of the sample submission")
    elif names and numbers_of(list(column.counts)) is not None and sample.ranked == 0:
        column.add(-20, "has numbers where the sample submission has names")


def _divides_alike(column: Column, folders: Sequence[str]) -> bool:
    pairs = {(value, folder) for value, folder in zip(column.values, folders, strict=True) if folder}
    return 2 <= len({folder for _, folder in pairs}) == len(pairs) == column.distinct


def separator(
    values: Counter[str],
    heading: str,
    sample: SampleSubmission | None,
    target: str | None = None,
    where: Path | str = "",
) -> str | None:
    """Return what separates the classes in sets of classes (`[]`: lists, perhaps of one each), or None without sets.

    Sets are recognised by their parts: parts that also stand alone, parts that are numbers, or a sample submission
    (or a heading) that speaks of them, or where `target` says that an image has several classes.

    Raises UserError where values with spaces may be either, and `target` does not say.
    """
    if all(re.fullmatch(r"\[.*\]", value) for value in values):
        return LISTED
    head = heading.strip().lower()
    if BARRED.search(head):
        return "|"
    for mark in SEPARATORS:
        cut = {value: tuple(part.strip() for part in value.split(None if mark == " " else mark)) for value in values}
        longer = [names for names in cut.values() if len(names) > 1]
        if not longer or any(len(set(names)) < len(names) for names in longer):
            continue
        parts = [part for names in longer for part in names]
        alone = {names[0] for names in cut.values() if len(names) == 1}
        often = Counter(part for names in cut.values() for part in names)
        half = sum(part in alone for part in parts) >= len(parts) / 2
        recurring = sum(often[part] > 1 for part in parts) >= len(parts) / 2
        spaced = mark == " "  # as many a name is: "no cancer" beside "cancer" is no set
        shared = sum(alone.issuperset(names) for names in longer) >= len(longer) / 2 if spaced else half
        numbers = numbers_of(parts) is not None
        sure = recurring and mark != "," and bool((TAG_HEADING if spaced else SET_HEADING).search(head))
        if shared or numbers or sure or (mark == "|" and len(set(parts)) < len(parts)) or _in_sample(cut, sample, mark):
            return mark
        again = [names for names in longer if all(often[part] > 1 for part in names)]
        if spaced and len(again) > len(longer) / 2 and (half or SET_HEADING.search(head)):
            if target == "several":
                return mark
            raise _one_or_several(f"{where}: '{heading}'", again[0])
    return None


def _one_or_several(column: str, names: Sequence[str]) -> UserError:
    """Return the error for values that may be names of several words or sets of classes."""
    return UserError(
        f"{column}: cannot tell whether '{' '.join(names)}' is one class, or the {len(names)} classes "
        f"{' and '.join(names)}, whose words other values have too\n"
        f"pass --target one, or --target several where spaces separate the classes of an image"
    )


def _in_sample(cut: dict[str, tuple[str, ...]], sample: SampleSubmission | None, mark: str) -> bool:
    if sample is None or len(sample.columns) != 1:
        return False
    known = {part for parts in cut.values() for part in parts}
    lists = [value.split(None if mark == " " else mark) for value in sample.distinct[:100]]
    new = [parts for parts, value in zip(lists, sample.distinct, strict=False) if len(parts) > 1 and value not in cut]
    return bool(new) and all(part in known for parts in new for part in parts)


def class_columns(table: Table, used: Sequence[str], sample: SampleSubmission | None) -> tuple[list[str], bool] | None:
    """Return the columns of a table with one column per class, and whether an image may have several; else None.

    Raises UserError where the columns that the sample submission asks for hold fractions.
    """
    header = [name for name in table.header if name not in used]
    columns = {name: Column(name, [value.strip() for value in table.column(name)]) for name in header}
    heads = sample.columns if sample and len(sample.columns) >= 2 and set(sample.columns) <= set(header) else []
    if heads:
        measured = [name for name in heads if columns[name].measured]
        if measured:
            raise regression(table, measured[0])
        if others := [name for name in heads if not columns[name].binary]:
            classes = ",".join(name for name in heads if name not in others)
            raise UserError(
                f"{table.path}: {len(heads)} targets ({examples(heads)}), each with classes of its own: one model has "
                f"one target\npass --label {classes or heads[0]} to train it alone, with the sample moved away"
            )
    names = heads or _one_hot(columns, len(table.rows))
    if len(names) < 2:
        return None
    sums = Counter(sum(columns[name].values[row].lower() in YES for name in names) for row in range(len(table.rows)))
    return names, set(sums) != {1}


def _one_hot(columns: dict[str, Column], rows: int) -> list[str]:
    """Return the binary columns of which exactly one is 1 in each row; empty if another column is named as a class."""
    binary = [name for name, column in columns.items() if column.binary]
    if len(binary) < 3 or any(STRONGER.search(name.lower()) for name in columns if name not in binary):
        return []
    if all(sum(columns[name].values[row].lower() in YES for name in binary) == 1 for row in range(rows)):
        return binary
    return []
