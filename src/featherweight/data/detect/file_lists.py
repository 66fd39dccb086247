"""Lists of files beside class folders: which part an image belongs to, or the classes of a flat validation folder."""

from __future__ import annotations

from collections.abc import Sequence

from featherweight.data.csv_file import examples
from featherweight.data.detect.detected import Detected
from featherweight.data.detect.id_column import Profile
from featherweight.data.detect.labelled import Survey


def record_classes_of_valid(detected: Detected, survey: Survey, valid: str, classes: set[str]) -> None:
    """Add the list that holds the classes of the images in the flat folder `valid`, or set that folder apart."""
    images = survey.scan.images
    for profile in survey.profiles:
        names = profile.table.header
        reached = [images[place] for places in profile.reach.values() for place in places]
        if len(names) < 2 or sum(file.startswith(f"{valid}/") for file in reached) < len(profile.reach):
            continue
        place = next((p for p, name in enumerate(names) if set(profile.table.column(name)) <= classes), None)
        if names.index(profile.id) != 0 or place != 1:
            continue
        detected.source["valid_list"] = survey.scan.path(profile.name)
        if profile.header:
            detected.source["list_header"] = ["file", "class"]
        detected.notes.append(f"{valid}/* with the classes of {profile.name}: held out as it is, to be scored")
        return
    del detected.source["valid"]
    detected.notes.append(f"set apart: {valid}/, whose images have no class (no list names them)")


def record_lists(detected: Detected, survey: Survey, trains: Sequence[str]) -> None:
    """Add the lists of files (train.txt, test.csv) that divide the images of the class folders, one for each part."""
    if len(trains) > 1 or detected.source.get("valid"):
        return
    lists: dict[str, list[Profile]] = {}
    for profile in survey.profiles:
        files = [survey.scan.images[places[0]] for places in profile.reach.values()]
        share = sum(file.startswith(trains[0]) for file in files)
        if profile.role and share >= 0.95 * len(profile.table.rows):
            lists.setdefault(profile.role, []).append(profile)
    plain = {part: [one for one in found if len(one.header) == 1] for part, found in lists.items()}
    lists = {part: plain[part] or found for part, found in lists.items()}
    list_of = {part: found[0] for part, found in sorted(lists.items()) if len(found) == 1}
    ids = {profile.id for profile in list_of.values()}
    with_headings = {not profile.header for profile in list_of.values()}
    first = all(profile.id == profile.table.header[0] for profile in list_of.values())
    if "train" not in list_of or len(list_of) < 2 or len(with_headings) > 1 or not (first or with_headings == {True}):
        if len(lists) > 1:
            _tell_unused(detected, [profile for found in lists.values() for profile in found])
        return
    if with_headings == {True}:
        if len(ids) > 1:
            _tell_unused(detected, list(list_of.values()))
            return
        detected.source["list_id"] = ids.pop()
    for part, profile in list_of.items():
        detected.source[f"{part}_list"] = survey.scan.path(profile.name)
        detected.notes.append(f"{profile.name}: lists the images of the part {part}")
    named = examples(sorted(profile.name for profile in list_of.values()))
    detected.assumed.append(f"the parts are those of {named} (source.train_list, source.valid_list, source.test_list)")


def _tell_unused(detected: Detected, lists: Sequence[Profile]) -> None:
    named = examples(sorted(profile.name for profile in lists), 3)
    detected.assumed.append(
        f"all images of the class folders are trained on: {named} list some of them, and are not used "
        f"(source.train_list, source.valid_list, source.test_list)"
    )
