"""Find the images to predict beside a label table: by the sample submission, a test table, or folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from featherweight.data.csv_file import examples
from featherweight.data.detect.folder_roles import assign, says, settle, shown, within
from featherweight.data.detect.id_column import Profile
from featherweight.data.detect.refusals import FORMATS, packed
from featherweight.data.detect.sample_submission import NAMED, SampleSubmission
from featherweight.data.file_matching import Index
from featherweight.data.label_rows import FOLDER
from featherweight.data.sources.arrays import HDF5
from featherweight.errors import UserError, count_of

if TYPE_CHECKING:
    from featherweight.data.detect.by_table import TableDetector

MOST = 0.99  # of a sample submission's ids that must name images


class ToPredict:
    """Adds the keys that say which images to predict to a detected source."""

    def __init__(self, reading: TableDetector) -> None:
        self.survey, self.profile, self.labelled = reading.survey, reading.profile, reading.labelled
        self.scan, self.files, self.detected = reading.scan, reading.files, reading.detected
        self.sample, self.hints, self.tell_choice = reading.sample, reading.hints, reading.tell_choice

    def find(self, used: set[int], others: set[str], both: set[str]) -> None:
        """Record the images to predict.

        `used` are the places of labelled images; `others` and `both` are the folders without labelled images and with
        some.
        """
        wish = self.hints.test
        free = [place for place in range(len(self.files)) if place not in used]
        if wish is not None and any(profile.name == wish for profile in self.survey.profiles):
            named = next(profile for profile in self.survey.profiles if profile.name == wish)
            self._by_table(named, named.id, free)
        elif wish is not None:
            if not within(self.files, [wish]):
                listed = shown(others | both)
                raise UserError(
                    f"--test {wish}: no folder with images and no table that names them; there are {listed}"
                )
            self._take_folders({wish}, both)
        elif "test_rows" in self.detected.source:
            pass
        elif self.sample is not None:
            self._by_sample(self.sample, used, free)
        elif (profile := self._test_table(used)) is not None:
            self._by_table(profile, profile.id, free)
        else:
            tests = {name for name in others if says(name, "test") and not says(name, "valid")}
            self._take_folders(tests, set())
            if not tests:
                self._by_list(used)
        taken = within(
            self.files, [name for name in others if self.scan.path(name) in self.detected.source.get("test", [])]
        )
        left = {name for name in others if self.scan.path(name) not in self.detected.source.get("test", [])}
        if left and not taken:
            count = len(within(self.files, left))
            self.detected.notes.append(
                f"set apart: {count_of(count, 'image')} without a class in {shown(left)} (--test if to predict)"
            )

    def _by_sample(self, sample: SampleSubmission, used: set[int], free: list[int]) -> None:
        files = [self.files[place] for place in free]
        reach = Index([("", name) for name in files]).reach(sample.ids)
        if len(reach) >= MOST * len(set(sample.ids)):
            self._settled(reach, files, sample)
            return
        for profile in self.survey.profiles:
            for name in profile.table.header:
                if name != profile.id and set(sample.ids) <= set(profile.table.column(name)):
                    self._refuse_composed(profile, name, sample)
                    self._by_table(profile, name, free)
                    return
        lost = next(id for id in sample.ids if id not in reach)
        overlap = Index([("", self.files[place]) for place in sorted(used)]).reach(sample.ids)
        if len(overlap) >= MOST * len(set(sample.ids)):
            self.detected.notes.append(f"{sample.path.name} lists training images: there are none to predict")
            self.detected.sample = None
            self.sample = None
            return
        if archives := packed(self.scan):
            raise UserError(f"{sample.path}: '{lost}' names no image, and {archives}, then run init again")
        stored = next((name for name in self.scan.files if name.lower().endswith((*HDF5, *FORMATS))), None)
        if stored is not None:
            raise UserError(
                f"{sample.path}: '{lost}' names no image file; are the images to predict in {stored}?\n"
                f"write them to files of their own, called by their ids, in a folder test/, and run init again"
            )
        count = f"{len(set(sample.ids)) - len(reach):,} of {len(set(sample.ids)):,} ids"
        raise UserError(
            f"{sample.path}: {count} name no image, as '{lost}': something else than an image is to be predicted\n"
            f"(a patient, a pair, a part of one), or images are missing from {self._missing_from(free)}; "
            f"without predictions: move that file away and run init again"
        )

    def _refuse_composed(self, profile: Profile, id: str, sample: SampleSubmission) -> None:
        """Refuse ids that stand for several images: composed of shared columns, or repeated."""
        table, ours = profile.table, self.profile.table
        shared = [name for name in table.header if name in ours.header and name not in (id, profile.id)]
        values = table.column(id)
        pairs = [(one, other) for one in shared for other in shared if one != other]
        composed = next(
            (
                p
                for p in pairs
                if all(v == "_".join(pair) for v, *pair in zip(values, *map(table.column, p), strict=True))
            ),
            None,
        )
        several = composed and len(set(zip(*map(ours.column, composed), strict=True))) < len(ours.rows)
        if several or len(set(values)) < len(values):
            what = (
                f"one for each {' and '.join(composed)}" if composed else f"one for several rows of {table.path.name}"
            )
            raise UserError(
                f"{sample.path}: '{sample.ids[0]}' stands for several images: a prediction is asked for {what}\n"
                f"(the column '{id}' of {table.path.name}), and this program predicts single images"
            )

    def _missing_from(self, free: list[int]) -> str:
        """Return in words where images to predict are missing."""
        tests = {name for name in assign(self.files, free)[0] if says(name, "test")}
        return shown(tests) if tests else "the folder (some competitions keep theirs hidden)"

    def _settled(self, reach: dict[str, list[int]], files: list[str], sample: SampleSubmission) -> None:
        chosen, instead = settle(reach, files, "test")
        self.tell_choice(instead, "test")
        place_of = {name: place for place, name in enumerate(self.files)}
        tests = {place_of[files[place]] for place in chosen.values()}
        alone, _, both = assign(self.files, tests)
        self._take_folders(alone | both, both)
        shared = {self.scan.path(name) for name in alone | both} & set(self.detected.source["images"])
        images = set(within(self.files, alone | both))
        if shared:
            taken, _ = settle(self.profile.reach, self.files, "train")
            images -= set(taken.values())
        if images != tests:  # more lie there than are asked for
            self.detected.source |= {"test_table": self.scan.path(sample.path.relative_to(self.scan.folder).as_posix())}
            self.detected.source["test_id"] = sample.header[0]

    def _by_list(self, used: set[int]) -> None:
        """Take the labelled images that a list of names alone sets apart as the test (test_list.txt).

        The ids of a table with a heading may be those of images that are not there, and called as these are.
        """
        lists = [one for one in self.survey.profiles if len(one.header) == 1 and one is not self.profile]
        tests = [one for one in lists if one.role == "test"]
        others = [one for one in lists if one not in tests and one.role]
        if len(tests) == 1 and not {"split", "valid"} & set(self.detected.source):
            reached = {place for places in tests[0].reach.values() for place in places}
            if reached < used:
                self._by_table(tests[0], tests[0].id, [*used])
                self.detected.source["test"] = self.detected.source["images"]
                note = "their classes are seen by the scorer alone, and they are not trained on"
                self.detected.notes.append(f"{tests[0].name}: {note}")
                others = [one for one in others if one.role != "train"]
        if others:
            named = examples(sorted(one.name for one in others), 3)
            self.detected.assumed.append(f"lists of images that are not used: {named}")

    def _test_table(self, used: set[int]) -> Profile | None:
        """Return a table of test images, not those used for training, or None; one with classes if there is one."""
        fitting = []
        for profile in self.survey.profiles:
            reached = {place for places in profile.reach.values() for place in places}
            if profile is not self.profile and profile.role == "test" and reached - used:
                fitting.append(profile)
        return max(fitting, key=lambda one: self.detected.source.get("label") in one.table.header, default=None)

    def _by_table(self, profile: Profile, id: str, free: list[int]) -> None:
        """Record the images to predict as a table lists them, with their classes if it has them."""
        wanted = set(free)
        reach = {
            name: here
            for name, places in profile.reach.items()
            if (here := [place for place in places if place in wanted])
        }
        chosen, _ = settle(reach, self.files, "test")
        alone, _, both = assign(self.files, chosen.values())
        source = self.detected.source
        source |= {"test_table": self.scan.path(profile.name), "test_id": id}
        if id != profile.id:
            source["test_file"] = profile.id
        label = source.get("label")
        classes = set(profile.table.column(label)) - {""} if label in profile.table.header and label != FOLDER else ()
        # A sample submission has one class in all rows, or any: its values are no answers.
        solved = len(classes) > 1 and not NAMED.search(profile.name.rpartition("/")[2].lower())
        if solved and not self.labelled.several:
            source["test_label"] = label
        note = f"{profile.name}: lists {count_of(len(chosen), 'image')} to predict"
        self.detected.notes.append(note + (", with their classes, which the scorer alone sees" if solved else ""))
        source["test"] = [self.scan.path(name) for name in sorted(alone | both)]

    def _take_folders(self, folders: set[str], both: set[str]) -> None:
        if not folders:
            return
        self.detected.source["test"] = [self.scan.path(name) for name in sorted(folders)]
        alone = folders - both
        if both:
            self.detected.notes.append(f"the images without a class in {shown(both)} are to be predicted")
        if alone:
            self.detected.notes.append(f"images to predict in {shown(alone)}")
