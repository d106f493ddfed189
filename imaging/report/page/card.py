"""One answer on the result page: its outcome in words, its pictures with outlines, its measures and its reasons."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import UID

from imaging.html.markup import (
    Json,
    Markup,
    amount,
    count,
    element,
    icon,
    inner_link,
    joined,
    quoted,
    reason_of,
    terms,
)
from imaging.report.page.measures import measure, rating
from imaging.report.page.pictures import PreviewPictures, figures
from imaging.report.page.volumes import lesion_table, selection, structures

UNREAD_SHOWN_AT_ONCE = 8

_FINDING_WORDS = {"yes": "Finding: yes", "no": "Finding: no", "unknown": "Finding: unknown"}
_NO_PACKAGE: Json = {
    "package": "no package",
    "group": "",
    "finding": "unknown",
    "completeness": "none",
    "applicability": "not_applicable",
    "reason": None,
    "reason_meaning": "no package was run on this study",
    "caution": None,
    "findings": [],
    "structures": [],
    "rating": None,
    "scores": None,
    "unread": [],
    "unseen": 0,
    "notes": [],
    "roles": {},
    "rejected": [],
}
_RECALL_WORDS = {True: "yes", False: "no", None: "not reached, but not every image was analysed"}
_SIDES = {"L": "Left breast", "R": "Right breast"}
_RANKS = {("unknown", "some"): 1, ("yes", "some"): 2, ("yes", "all"): 3, ("no", "all"): 4}


@dataclass(frozen=True)
class AnswerCard:
    """One result of one study, with what the page needs to order, count and filter it."""

    study: Json
    result: Json
    validated: bool | None

    @property
    def applicable(self) -> bool:
        return bool(self.result["applicability"] == "applicable")

    @property
    def failed(self) -> bool:
        """Nothing could be analysed, or no DICOM object was released."""
        return self.applicable and (self.result["completeness"] == "none" or not self.result["objects"])

    @property
    def kinds(self) -> list[str]:
        """The filters that show this answer."""
        if not self.applicable:
            return ["not_applicable"]
        kinds = [str(self.result["finding"])]
        if self.failed:
            kinds.insert(0, "failed")
        if self.result["unread"]:
            kinds.append("unread")
        return kinds

    @property
    def order(self) -> tuple[int, str, str, str]:
        """Failures first, then what nobody knows, then incomplete findings, findings, and no finding."""
        outcome = self.result["finding"], self.result["completeness"]
        rank = 5 if not self.applicable else 0 if self.failed else _RANKS.get(outcome, 1)
        return (rank, self.study["study_uid"], self.result["package"], self.result["group"])

    @property
    def search_text(self) -> str:
        """What the search looks through: identifiers, origin, labels, reasons and notes, in lower case."""
        study, result = self.study, self.result
        words = [study[key] for key in ("study_uid", "modality", "site", "scanner", "protocol")]
        words += [result["package"], result["group"], result["reason"], result["reason_meaning"]]
        words += [finding["label"] for finding in result["findings"]]
        words += [finding["site"]["meaning"] for finding in result["findings"] if finding["site"]]
        words += sorted({unread[key] for unread in result["unread"] for key in ("reason", "reason_meaning")})
        return " ".join(str(word) for word in [*words, *result["notes"]] if word is not None).lower()


def answers_of(summary: Json) -> Iterator[AnswerCard]:
    """Every answer of the run; a study that no package looked at counts as one that none is made for."""
    validated = {package["name"]: package["validated"] for package in summary["packages"]}
    for study in summary["studies"]:
        for result in study["results"] or [_NO_PACKAGE]:
            yield AnswerCard(study, result, validated.get(result["package"]))


def card(answer: AnswerCard, previews: PreviewPictures) -> Markup:
    result = answer.result
    pictures = figures(result, previews)
    kind = "failed" if answer.failed else result["finding"]
    return element(
        "article",
        element(
            "header",
            element(
                "h3",
                element("span", icon("failed"), "Failed", class_="outcome") if answer.failed else None,
                element("span", icon(result["finding"]), _FINDING_WORDS[result["finding"]], class_="outcome stated"),
                element("span", icon(result["completeness"]), _completeness(result), class_="completeness"),
            ),
            element("p", result["caution"], class_="caution") if result["caution"] else None,
            _headline(answer),
            element("p", element("span", "Study ", class_="quiet"), quoted(answer.study["study_uid"], "uid")),
            _origin(answer),
        ),
        _unread(result),
        lesion_table(result),
        element(
            "div",
            element("div", *pictures, class_="pictures") if pictures else None,
            element(
                "div",
                _scores(result),
                _findings(result),
                _measures(result),
                structures(result),
                _notes(result),
                selection(result),
                _objects(result),
                class_="details",
            ),
            class_=f"evidence{'' if pictures else ' no-pictures'}",
        ),
        class_=f"card {kind}",
        data_kinds=" ".join(answer.kinds),
        data_find=answer.search_text,
    )


def _completeness(result: Json) -> str:
    total = result["analysed"] + len(result["unread"])
    if not total:
        return "No image to analyse"
    words = {"all": "All images analysed", "some": "Some images analysed", "none": "No image analysed"}
    return f"{words[result['completeness']]} ({result['analysed']} of {total})"


def _headline(answer: AnswerCard) -> Markup | None:
    """The sentence under the outcome: what it does not mean, or why it failed."""
    result = answer.result
    sentences: list[object] = [f"Covers {result['covers']}."] if result.get("covers") else []
    if result["finding"] == "unknown":
        sentences.append("This is not a negative answer.")
    if result["completeness"] == "some":
        unread = count(len(result["unread"]), "image") if result["unread"] else "What the notes name"
        sentences.append(f"{unread} could not be analysed and may hold a finding.")
    if not result["objects"]:
        sentences.append("No DICOM object was released.")
    if result["reason"]:
        sentences.append(reason_of(result, starts=True))
    return element("p", *_spaced(sentences), class_="headline") if sentences else None


def _spaced(items: list[object]) -> list[object]:
    return [piece for item in items for piece in (item, " ")][:-1]


def _origin(answer: AnswerCard) -> Markup | None:
    study, result = answer.study, answer.result
    package = joined(
        [
            quoted(result["package"]),
            joined([" ", element("span", "demonstration", class_="tag")]) if answer.validated is False else None,
        ]
    )
    pairs: list[tuple[str, object]] = [
        (key.capitalize(), quoted(study[key])) for key in ("modality", "site", "scanner", "protocol")
    ]
    return terms([*pairs, ("Package", package), ("Group", quoted(result["group"]))], "origin")


def _unread(result: Json) -> Markup | None:
    """Why images were not analysed: one line per reason, with the images behind it."""
    by_reason: dict[tuple[str, str], list[Json]] = {}
    for unread in result["unread"]:
        by_reason.setdefault((unread["reason"], unread["reason_meaning"]), []).append(unread)
    if not by_reason:
        return None
    lines = []
    for images in by_reason.values():
        names = [element("li", _image_name(image, result["views"])) for image in images]
        listing = element("ul", *names, class_="images")
        if len(images) > UNREAD_SHOWN_AT_ONCE:
            listing = element("details", element("summary", f"Show all {len(images)} images"), listing)
        lines.append(element("li", element("p", f"{count(len(images), 'image')}: ", reason_of(images[0])), listing))
    return element("div", element("h4", icon("failed"), "Images not analysed"), element("ul", *lines), class_="unread")


def _image_name(image: Json, views: Json) -> Markup:
    frame = None if image["frame"] is None else element("span", f"frame {image['frame']}", class_="nowrap")
    view = views.get(image["source_sop_uid"])
    told = None if view is None else joined([element("b", quoted(view)), " "])
    return joined([told, quoted(image["source_sop_uid"], "uid"), " ", frame])


def _scores(result: Json) -> Markup | None:
    """What the exam comes to: recall or not, and how suspicious each breast is."""
    scores = result["scores"]
    if scores is None:
        return None
    pairs: list[tuple[str, object]] = []
    if scores["operating_point"] is not None:
        at = element("span", f" at an exam score of {scores['operating_point']:.2f}", class_="quiet")
        pairs.append(("Recall", joined([element("b", _RECALL_WORDS[scores["recall"]]), at])))
    pairs += [("Exam score", f"{scores['exam']:.2f}")]
    pairs += [(_SIDES[side], f"{value:.2f}") for side, value in sorted(scores["breasts"].items())]
    return joined([element("h4", "Exam"), terms(pairs, "values")])


def _findings(result: Json) -> Markup | None:
    """The planar ones: those of volumes have a table."""
    planar = [(n, f) for n, f in enumerate(result["findings"], start=1) if f["volume_ml"] is None]
    if not planar:
        return None
    rows = [_finding(number, finding, result) for number, finding in planar]
    return joined([element("h4", count(len(rows), "finding")), element("ol", *rows, class_="findings")])


def _finding(number: int, finding: Json, result: Json) -> Markup:
    x, y = finding["center_px"]
    x0, y0, x1, y1 = finding["box_px"]
    pairs: list[tuple[str, object]] = [
        (term, f"{amount(finding[key])} {unit}")
        for term, key, unit in (("Longest diameter", "longest_diameter_mm", "mm"), ("Area", "area_mm2", "mm²"))
        if finding[key] is not None
    ]
    if not pairs:
        pairs = [
            ("Size", element("span", "uncalibrated: no millimetres", class_="quiet")),
            ("Box", f"{amount(x1 - x0)} × {amount(y1 - y0)} px"),
        ]
    if finding["rating"] is not None:
        pairs.insert(0, rating(finding["rating"]))
    pairs.append(("Center", f"x {x:.1f}, y {y:.1f} px"))
    return element(
        "li",
        element(
            "p",
            element("span", number, class_="number", aria_hidden="true"),
            element("strong", quoted(finding["label"])),
            element("span", "score ", element("b", f"{finding['score']:.2f}"), class_="score"),
            class_="finding-title",
        ),
        terms(pairs, "values"),
        _same_lesion(number, result),
        element("p", "Image ", _image_name(finding, result["views"]), class_="quiet small"),
    )


def _same_lesion(number: int, result: Json) -> Markup | None:
    """The finding of another view that is taken as the same lesion."""
    for one in result["composites"]:
        if number - 1 in one["members"]:
            others = ", ".join(str(member + 1) for member in one["members"] if member != number - 1)
            return element("p", f"One lesion with finding {others}, score {one['score']:.2f} together")
    return None


def _measures(result: Json) -> Markup | None:
    pairs = [measure(name, value) for name, value in result["measures"].items()]
    if result["rating"] is not None:
        pairs.insert(0, rating(result["rating"]))
    if not pairs:
        return None
    return joined([element("h4", "Measures of the exam"), terms(pairs, "values")])


def _notes(result: Json) -> Markup | None:
    if not result["notes"]:
        return None
    notes = [element("li", quoted(note)) for note in result["notes"]]
    return joined([element("h4", "Notes"), element("ul", *notes, class_="notes")])


def _objects(result: Json) -> Markup | None:
    if not result["objects"]:
        return None
    rows = []
    for item in result["objects"]:
        kind = _object_word(item["sop_class_uid"])
        link = inner_link(item["path"])
        name = element("a", kind, href=link) if link else joined([kind, " ", quoted(item["path"])])
        rows.append(element("li", name, element("span", quoted(item["sop_instance_uid"], "uid"), class_="quiet")))
    return joined([element("h4", "DICOM objects"), element("ul", *rows, class_="objects")])


def _object_word(sop_class_uid: str) -> str:
    """What the standard calls objects of that class (PS3.6 Annex A), without the word for storing them."""
    name = UID(sop_class_uid).name
    return "DICOM object" if name == sop_class_uid else str(name).removesuffix(" Storage")
