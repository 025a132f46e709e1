"""Compiled networks: captured whole, warm for every shape of a stream, equal to the uncompiled ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from streamer.vision.engines.base import Picture  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Engine, encode_together  # noqa: E402
from streamer.vision.engines.sam3.headroom import Headroom  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from streamer.vision.engines.sam3.options import Sam3Options  # noqa: E402
from streamer.vision.engines.sam3.warming import prepare  # noqa: E402
from tests.sam3 import tiny  # noqa: E402
from tests.sam3.test_engine import BOXES, Pictures  # noqa: E402

FRAMES = 22


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def stream(network: Network, picture: Pictures) -> list[np.ndarray]:
    """Masks of two streams side by side, the second from frame 4 on: objects come, go and become conditioning frames,
    one is alone, several share a batch."""
    one, other = (Sam3Engine(network, Headroom(network)) for _ in range(2))
    masks = []
    for index in range(FRAMES):
        if index < 4:
            one.encode(picture(index))
        else:
            encode_together([one, other], [picture(index), picture(index + 9)])
            if index == 4:
                other.prompt(1, box_xyxy=BOXES[3])
            masks += [region.logits for region in other.propagate([1]).values()]
        if index == 0:
            one.prompt(1, box_xyxy=BOXES[1])
        if index == 1:
            mask = np.zeros(picture(0).bgr.shape[:2], bool)
            mask[30:100, 90:140] = True
            one.prompt(2, mask=mask)
            one.prompt(3, box_xyxy=BOXES[2])
        if index in (5, 9):
            one.detect(["person"])
        if index == 20:
            one.remove(3)
        masks += [region.logits for region in one.propagate([1, 2, 3]).values()]
        if index in (6, 7, 8, 12):
            with torch.inference_mode():
                one._scene.promote((1, None))
    return masks


def check(options: Sam3Options, make: Callable[[], torch.nn.Module], picture: Pictures, backend: str) -> list[str]:
    tokenizer = tiny.tokenizer() if make is tiny.sam3_model else None
    expected = stream_of(Network(make(), tokenizer, options), picture)
    network = Network(make(), tokenizer, replace(options, compile=True))
    said: list[str] = []
    prepare(network, Headroom(network), said.append, backend=backend)
    assert network.compiled
    # Nothing that the stream does may need the compiler again: a recompilation would stall every stream for seconds.
    with torch.compiler.set_stance("fail_on_recompile"):
        got = stream_of(network, picture)
    assert len(got) == len(expected) > 2 * FRAMES
    for mask, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(mask, other, atol=1e-4)
    return said


def stream_of(network: Network, picture: Pictures) -> list[np.ndarray]:
    if network.family != "sam3":
        network.find = lambda features, concepts: {}  # type: ignore[method-assign]
    return stream(network, picture)


def test_a_warm_network_compiles_nothing_more(options: Sam3Options, picture: Pictures) -> None:
    """Dynamo's capture is real here; what it captured runs eagerly, because a C++ compiler takes minutes."""
    said = check(options, tiny.sam3_model, picture, "eager")
    assert said == [f"warming up {step}/20" for step in range(1, 21)]


@pytest.mark.slow
def test_a_warm_network_is_the_same_through_the_real_compiler(options: Sam3Options, picture: Pictures) -> None:
    check(options, tiny.sam3_model, picture, "inductor")


def test_the_memory_encoder_goes_through_the_real_compiler(network: Network) -> None:
    """The smallest of the compiled networks, with one object and with several."""
    encoder = network.tracker_model.memory_encoder
    shapes = [(count, torch.randn(count, tiny.HIDDEN, 8, 8), torch.randn(count, 1, 128, 128)) for count in (1, 2, 3)]
    with torch.inference_mode():
        expected = [encoder(features, masks)[0] for _, features, masks in shapes]
        encoder.compile(fullgraph=True, dynamic=None, backend="inductor")
        for (count, features, masks), wanted in zip(shapes, expected, strict=True):
            torch.testing.assert_close(encoder(features, masks)[0], wanted, atol=1e-4, rtol=1e-4)
            assert wanted.shape[0] == count


def test_without_a_working_compiler_it_goes_on_and_says_so(
    options: Sam3Options, picture: Pictures, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(graph: object, inputs: object) -> Callable[..., object]:
        raise RuntimeError("no C++ compiler was found")

    network = Network(tiny.sam3_model(), tiny.tokenizer(), replace(options, compile=True))
    said: list[str] = []
    prepare(network, Headroom(network), said.append, backend=broken)
    assert not network.compiled
    assert said[-1] == "warming up 20/20"
    assert any("no C++ compiler" in record.message for record in caplog.records)
    engine = Sam3Engine(network, Headroom(network))
    engine.encode(picture(0))
    engine.prompt(1, box_xyxy=BOXES[1])
    assert set(engine.propagate([1])) == {1}


def test_without_compile_it_is_warmed_up_as_it_is(options: Sam3Options) -> None:
    network = Network(tiny.sam2_model(), None, options)
    said: list[str] = []
    prepare(network, Headroom(network), said.append)
    assert not network.compiled
    assert said[-1] == "warming up 20/20"


def test_warming_up_steps_down_where_memory_is_short(options: Sam3Options, picture: Pictures) -> None:
    network = Network(tiny.sam3_model(size=224), tiny.tokenizer(), options)
    headroom = Headroom(network, sizes=(224, 112))
    # The allocator's own error, at the boundary where it comes from.
    network.model.detector_model.vision_encoder.register_forward_pre_hook(_full_at(224))
    said: list[str] = []
    prepare(network, headroom, said.append)
    assert network.image_size == 112
    assert "too little memory: input size 224 -> 112" in said
    assert said[-1] == "warming up 20/20"
    engine = Sam3Engine(network, headroom)
    engine.encode(Picture(picture(0).bgr, 0, 0.0))
    assert engine.notices == ("input size 224 -> 112",)


def _full_at(size: int) -> Callable[..., None]:
    def hook(module: object, args: tuple[torch.Tensor, ...]) -> None:
        if args[0].shape[-1] >= size:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return hook
