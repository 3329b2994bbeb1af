"""Questions become turns: as many as there are, the picture once, answers where they belong."""

from data_tools.scenes.conversations import conversation, with_conversation
from data_tools.scenes.rows import scene_rows


def test_two_questions_by_hand():
    asked = [{"question": "Red?", "answer": "yes"}, {"question": "How many?", "answer": "two"}]
    assert conversation(asked) == [
        {"from": "human", "value": "<image>\nRed?"},
        {"from": "gpt", "value": "yes"},
        {"from": "human", "value": "How many?"},
        {"from": "gpt", "value": "two"},
    ]


def test_rows_keep_what_they_had():
    (row,) = scene_rows(1)
    grown = with_conversation(row)
    assert with_conversation(row) == grown
    assert len(grown.meta["conversations"]) == 2 * len(row.meta["sceneworld"]["questions"])
    assert {key: value for key, value in grown.meta.items() if key != "conversations"} == row.meta
