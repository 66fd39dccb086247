"""Detect the source for a label table beside folders of images, with the images to predict and to hold out."""

from __future__ import annotations

from typing import Any

from featherweight.data import tables
from featherweight.data.csv_file import Table, examples
from featherweight.data.detect import group_column, unused_tables
from featherweight.data.detect.detected import Detected, Hints
from featherweight.data.detect.folder_roles import assign, settle, shown
from featherweight.data.detect.id_column import Profile, counts_rows
from featherweight.data.detect.labelled import Labelled, Survey, by_elimination
from featherweight.data.detect.sample_submission import SampleSubmission
from featherweight.data.detect.scan import relative
from featherweight.data.detect.split_column import record_split
from featherweight.data.detect.to_predict import ToPredict
from featherweight.data.folder_rows import ALONE, FOLDER
from featherweight.errors import UserError, count_of


class TableDetector:
    """Builds the keys of the source `table` and the messages about them."""

    def __init__(self, survey: Survey, labelled: Labelled, sample: SampleSubmission | None, hints: Hints) -> None:
        self.survey, self.labelled, self.sample, self.hints = survey, labelled, sample, hints
        self.scan, self.profile = survey.scan, labelled.profile
        self.files = self.scan.images
        self.detected = Detected({"name": "table"}, target="several" if labelled.several else "one")

    def read(self, folders: dict[str, str]) -> Detected:
        """Return the detected source; `folders` is the class of each image by its folder, if folders may be classes."""
        table, one = self.profile.table, self.labelled
        source = self.detected.source
        source |= {"labels": self.scan.path(self.profile.name), "id": self.profile.id}
        if self.profile.header:
            source["header"] = self.profile.header
        if self.profile.folders:
            source["folders"] = True
        if one.columns:
            source["columns"] = one.columns
        elif one.column is not None:
            source["label"] = one.column.name
        if one.several:
            source["several"] = True
        if one.separator and one.separator != " ":
            source["separator"] = one.separator
        blank = self._without_class()
        reach = {id: places for id, places in self.profile.reach.items() if id not in blank}
        chosen, instead = settle(reach, self.files, "train")
        self.tell_choice(instead, "training")
        self._split_column(table)
        held = self._valid_table(chosen)
        used = {*chosen.values(), *held}
        labelled, others, both = assign(self.files, used)
        if "valid_images" in source:
            labelled, _, both = assign(self.files, chosen.values())
        source["images"] = [self.scan.path(name) for name in sorted(labelled | both)]
        self._tell(table, labelled | both)
        self._disagreement(chosen, folders)
        self._group(table)
        ToPredict(self).find(used, others, both)
        joined = source.get("join", {})
        unused = [p for p in self.survey.unused if relative(p.table.path, self.scan.root) not in joined]
        self.detected.assumed += unused_tables.advice(unused, self.profile, self.scan.folder)
        self.detected.assumed += self._of_one_class()
        unclear = [p for p in self.survey.unclear if relative(p.table.path, self.scan.root) not in joined]
        self.detected.assumed += [unused_tables.unclear(one) for one in unclear]
        return self.detected

    def _of_one_class(self) -> list[str]:
        """Return messages about tables that give images that are not trained on one and the same class."""
        ours, column = self.profile, self.labelled.column
        if column is None or self.sample is not None:
            return []
        others = [p for p in self.survey.profiles if p is not ours and {ours.id, column.name} <= {*p.table.header}]
        return [
            unused_tables.of_one_class(one, column.name)
            for one in others
            if len({*one.table.column(column.name)}) == 1 and ours.reach.keys().isdisjoint(one.reach)
        ]

    def _tell(self, table: Table, folders: set[str]) -> None:
        one, name = self.labelled, self.profile.name
        what = f"one column per class: {examples(one.columns, 4)}" if one.columns else f"classes in '{one.column.name}'"  # type: ignore[union-attr]
        sets = f", sets of classes separated by '{one.separator}'" if one.separator else ""
        rows = (
            f"folders of {count_of(len(table.rows), 'image')}"
            if self.profile.folders
            else f"{len(table.rows):,} rows, ids"
        )
        self.detected.notes.append(f"{name}: {rows} in '{self.profile.id}', {what}{sets}")
        self.detected.notes.append(f"images with labels in {shown(folders)}")
        if one.column is not None and one.others and self.hints.label is None:
            why = "; ".join(one.column.reasons[:2]) or "nothing speaks against it"
            listed = ", ".join(column.described() for column in one.others[:3])
            self.detected.assumed.append(f"label: {one.column.name} ({why}); others: {listed} (pass --label)")
        elif one.column is not None and self.hints.label is None and by_elimination(one):
            text = f"label: {one.column.name}, as no other column can be (pass --label, or --group if these are groups)"
            self.detected.assumed.append(text)
        if one.several:
            self.detected.assumed.append(
                f"target: several, a set of classes for each image{self._rows()} (pass --target one)"
            )

    def _without_class(self) -> set[str]:
        """Return the ids without a class in any row, such as images to predict listed in a table of all images."""
        if self.labelled.column is None or self.labelled.several:  # a set may be empty
            return set()
        ids = self.profile.table.column(self.profile.id)
        return {*ids} - {id for id, label in zip(ids, self.labelled.column.values, strict=True) if label}

    def _rows(self) -> str:
        """Return why an image has several classes, if the reason is that it has several rows; else an empty text."""
        classes: dict[str, set[str]] = {}
        if self.labelled.column is not None and not self.labelled.separator:
            ids = self.profile.table.column(self.profile.id)
            for id, label in zip(ids, self.labelled.column.values, strict=True):
                classes.setdefault(id, set()).add(label)
        again = [id for id, labels in classes.items() if len(labels) > 1]
        return (
            f", since {len(again):,} of {len(classes):,} have rows of different classes, as {again[0]}" if again else ""
        )

    def tell_choice(self, instead: list[tuple[str, str, int]], what: str) -> None:
        """Report which of several files for the same ids are used."""
        for taken, other, count in instead[:3]:
            self.detected.assumed.append(
                f"{what} images: {count:,} ids match a file in {taken} and another in {other}; those in {taken} are "
                f"used (keys source.images, source.test)"
            )

    def _disagreement(self, chosen: dict[str, int], folders: dict[str, str]) -> None:
        """Report if the folders of the images differ from the classes in the table."""
        column = self.labelled.column
        if not folders or column is None:
            return
        label_of = dict(zip(self.profile.table.column(self.profile.id), column.values, strict=True))
        pairs = {
            (label_of[id], folders[self.files[place]]) for id, place in chosen.items() if self.files[place] in folders
        }
        named = sorted({folder for _, folder in pairs})
        if len(named) > 1 and any(label != folder for label, folder in pairs):
            same = len(pairs) == len(named) == len({label for label, _ in pairs})
            verdict = "are other names for the same classes" if same else "are not the classes: the table's are used"
            self.detected.notes.append(f"the folders {examples(named, 3)} {verdict}")

    def _group(self, table: Table) -> None:
        """Set the column that groups images: the user's, a known one, or one with such a heading."""
        wish, folders = self.hints.group, self.profile.folders
        if wish == self.profile.id and not folders:
            raise UserError(f"--group {wish}: {table.path} has the names of the images there: each would be a group")
        taken = {self.profile.id, *self._label_columns(), *self.hints.declared_besides("group")}
        beside = [p.table for p in self.survey.profiles if p is not self.profile and p.role not in ("test", "valid")]
        candidates = [(one, name) for one in (table, *beside) for name in one.header if name not in taken]
        wanted = wish or self.hints.likely.get("group")
        named = [(one, name) for one, name in candidates if name == wanted]
        if wish is not None and not named and wish != self.profile.id:  # none, or a pattern
            if folders:
                self.detected.source["group"] = ALONE
            return
        fitting = named[:1] or [pair for pair in candidates if group_column.fits(pair[1], pair[0].column(pair[1]))]
        if folders and (wish == self.profile.id or not fitting):
            fitting = [(table, FOLDER)]
        fitting.sort(key=lambda pair: len(set(pair[0].column(pair[1]))))
        apart = [self._apart(one) for one, _ in fitting]
        if wish is not None and fitting and apart[0]:
            raise UserError(f"--group {wish}: {apart[0]}")
        fitting = [pair for pair, why in zip(fitting, apart, strict=True) if not why]
        if not fitting:
            return
        one, column = fitting[0]
        if one is not table:
            self.detected.source["join"] = {relative(one.path, self.scan.root): []}
        self.detected.source["group"] = column
        others = ", ".join(name for _, name in fitting[1:4])
        if others:
            self.detected.assumed.append(f"group: {column}; others: {others} (pass --group)")

    def _apart(self, other: Table) -> str:
        """Return why the columns of another table cannot be joined to the label table's; empty if they can."""
        table = self.profile.table
        if other is table:
            return ""
        id = self.profile.id
        shared = tables.shared(table, other, id)
        where = f"that column is in {other.path}, which cannot be joined to {table.path.name}: "
        keys = other.column(shared) if shared is not None else []
        if self.profile.header or shared is None or (shared != id and counts_rows(keys)):
            return f"{where}no column of names is called alike\ncall the column of the images' names in both '{id}'"
        if len(set(keys)) < len(keys):
            return f"{where}'{shared}' has values in several rows there\nleave one row for each, and run init again"
        values = table.column(shared)
        known = {*keys}
        if sum(value in known for value in values) < len(values) / 2:
            return f"{where}'{shared}' has other values there, as '{keys[0]}'\nwrite them as '{values[0]}' in both"
        return ""

    def _label_columns(self) -> list[str]:
        """Return the columns of the label table that hold classes."""
        column = self.labelled.column
        return self.labelled.columns if column is None else [column.name]

    def _split_column(self, table: Table) -> None:
        """Record the first column whose values name parts of the data: train, val, test."""
        column, elsewhere = self.labelled.column, self.sample is not None
        labels = column.values if column is not None else ()
        taken = {self.profile.id, self.hints.group, *self._label_columns()}
        for name in table.header:
            if name not in taken and record_split(
                self.detected, name, table.column(name), labels, test_elsewhere=elsewhere
            ):
                return

    def _valid_table(self, trained: dict[str, int]) -> set[int]:
        """Return the places of held-out images listed in a second table with the same columns.

        Where its images have the names of images that are `trained` on, they lie in folders of their own.
        """
        table, wanted = self.profile.table, {self.profile.id, *self._label_columns()}
        for profile in self.survey.profiles:
            same = wanted <= set(profile.table.header) or (profile.header and len(profile.header) == len(table.header))
            if profile is self.profile or profile.role != "valid" or not same:
                continue
            chosen, _ = settle(profile.reach, self.files, "valid")
            self.detected.source["valid"] = self.scan.path(profile.name)
            self.detected.notes.append(f"{profile.name}: {count_of(profile.rows, 'row')} held out as found there")
            if any(trained.get(id, place) != place for id, place in chosen.items()):
                alone, _, both = assign(self.files, chosen.values())
                self.detected.source["valid_images"] = [self.scan.path(name) for name in sorted(alone | both)]
            return set(chosen.values())
        return set()


def split_of_lists(survey: Survey, profile: Profile) -> tuple[dict[str, Any], list[str]] | None:
    """Return the list beside a list of files with keys (`images.txt`) that marks the keys for training, or None."""
    first = profile.header[0] if profile.header else None
    if first is None or first == profile.id:
        return None
    keys = set(profile.table.column(first))
    for table in survey.others:
        name = table.path.name.lower()
        if "split" not in name:
            continue
        try:
            listed = tables.read_list(table.path)
        except UserError:
            continue
        if (
            len(listed.header) == 2
            and {row[0] for row in listed.rows} == keys
            and {r[1] for r in listed.rows} <= {"0", "1"}
        ):
            return {str(table.path): [first, "training"]}, ["0"]
    return None
