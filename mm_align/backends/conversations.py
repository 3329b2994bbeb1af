"""Questions about a sample's pictures as conversations, and the check that messages and pictures belong together."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.records import Message, Part, Sample


def conversations(sample: Sample, questions: Sequence[str]) -> list[Sample]:
    """Each question as a conversation of its own, the pictures first."""
    pictures = tuple(Part("image") for _ in sample.images)
    return [Sample(sample.id, (Message("user", (*pictures, Part("text", q))),), sample.images) for q in questions]


def check_pictures(sample: Sample) -> None:
    """Raise ValueError unless the messages name as many pictures as the sample has."""
    named = sum(part.kind != "text" for message in sample.messages for part in message.parts)
    if named != len(sample.images):
        raise ValueError(f"sample {sample.id}: its messages name {named} pictures, but it has {len(sample.images)}")
