"""Where the files of Object HalBench are: synonyms, ground truth, questions, replies, in the folders that the user names or near them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from .answers import read_rows
from .coco import PHRASES, Truth, Vocabulary, annotation_files, build_truth, read_truth, synonyms
from .sources import PACKAGED, Published, find

ORIGIN = "https://github.com/RLHF-V/RLAIF-V (eval/data, CC BY-NC 4.0, not packaged)"
SYNONYMS = Published("synonyms_refine.txt", "681041d2958d7871ed6fa69c3108f34aa6a0a354eb53ed4c5a425e65f86bc72a", ORIGIN)
QUESTIONS = ("obj_halbench_300_with_image.jsonl", "chair_instruction2_img_diversify_8_noemo_test_300.jsonl")
NEIGHBOUR = "chair"  # the folder of CHAIR's data, beside which this benchmark's may lie
LEVELS = 3  # how far up neighbours are looked for
CHAIR_TRUTH = PACKAGED / "chair" / "coco2014_chair_gt_objects.json.gz"


class Files:
    """data: the folder or file that the user gave. responses: the folder of the response file, once it is known."""

    def __init__(self, data: str | None) -> None:
        if data is not None and not Path(data).exists():
            raise FileNotFoundError(f"there is no {data}")
        self.data = None if data is None else Path(data)
        self.responses: Path | None = None

    @property
    def folders(self) -> list[Path]:
        """The user's folders, absolute."""
        given = [path.absolute() for path in (self.data, self.responses) if path is not None]
        return [path if path.is_dir() else path.parent for path in given]

    def beside(self, *names: str) -> Path | None:
        """A file of one of these names in one of the folders."""
        return next((folder / name for folder in self.folders for name in names if (folder / name).is_file()), None)

    def vocabulary(self, given: str | None, flags: list[str]) -> Vocabulary:
        """The refined synonyms, and the phrases that upstream makes of them. ValueError that says where to get them."""
        path = Path(given) if given else self._near(SYNONYMS.name, "nc_only/object_halbench", "object_halbench")
        if path is None:
            where = f"it comes from {SYNONYMS.origin}: give its folder as `data`, or the file as the option `synonyms`"
            raise ValueError(f"object_halbench needs {SYNONYMS.name}; {where}")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != SYNONYMS.sha256:
            flags.append(f"{path.name} differs from the published {SYNONYMS.name} (sha256 {SYNONYMS.sha256[:12]}...)")
        classes = synonyms(content.decode("utf-8-sig"), strip=True)
        phrases = [word for word in (*classes, "home plate", "train track") if " " in word]
        return Vocabulary(classes, {**{phrase: phrase for phrase in phrases}, **PHRASES})

    def truth(
        self, given: str | None, vocabulary: Vocabulary, words: Callable[[str], Sequence[str]], wanted: Collection[int], flags: list[str]
    ) -> Truth:
        """Classes by image id: of `given`, of the user's folders, of COCO's annotations near them, else CHAIR's, which is flagged."""
        for path in (Path(given),) if given else self._truths():
            if path.is_file():
                return read_truth(path, wanted)
            if annotation_files(path)[0]:
                if path.name == NEIGHBOUR and path not in self.folders:
                    flags.append(f"ground truth is built of COCO's annotations in {path}")
                return build_truth(path, vocabulary, words, wanted)
        if given:
            raise ValueError(f"{given} holds no ground truth and none of COCO's annotations")
        flags.append("ground truth is CHAIR's, for no COCO annotations are given; upstream builds it of them with the refined synonyms")
        return read_truth(CHAIR_TRUTH, wanted)

    def questions(self) -> Path | None:
        if self.data is not None and self.data.is_file() and self.data.suffix == ".jsonl":
            return self.data
        return find(None if self.data is None else str(self.folders[0]), QUESTIONS)

    def _truths(self) -> Iterator[Path]:
        if self.data is not None and self.data.is_file() and self.data.suffix in (".json", ".gz"):
            yield self.data
        for folder in self.folders:
            yield from sorted(folder.glob("ground_truth*.json*"))
        yield from self.folders[:1]
        yield from (above / NEIGHBOUR for above in self._above())

    def _above(self) -> Iterator[Path]:
        return (above for folder in self.folders for above in folder.parents[:LEVELS])

    def _near(self, name: str, *folders: str) -> Path | None:
        """A file in the user's folders, or in one of `folders` beside or above them."""
        found = self.beside(name) or (find(str(self.folders[0]), (name,)) if self.folders else None)
        places = (above / folder / name for above in self._above() for folder in folders)
        return found or next((path for path in places if path.is_file()), None)


def image_ids(path: Path) -> list[int]:
    """The images of a question file, in its order."""
    return [int(row["image_id"]) for row in read_rows(path)[1]]
