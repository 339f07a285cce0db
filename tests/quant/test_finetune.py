"""Fine-tuning recovers accuracy at the same widths, to the bit, and goes on where it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hwsim.bits import BitWidths
from quant import digits
from quant.accuracy import evaluate
from quant.apply import quantize
from quant.calibration import calibrate
from quant.codes import load_packed, save_packed
from quant.recovery.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from quant.recovery.finetune import (
    Schedule,
    divide,
    finetune,
    kl_loss,
    learning_rate,
    logit_loss,
    moved,
)
from quant.recovery.student import Student
from tests.quant.nets import digits_network

SHORT = Schedule(epochs=6, rate=0.02, batch=50, shift=1, loss="logits")
IMAGES = 500


def images():
    return digits.train_images().take(slice(0, IMAGES))


@pytest.fixture(scope="module")
def start():
    """Digits at 1..4 bits a channel, some dropped, and one tensor with a width a channel."""
    network = digits_network()
    rng = np.random.default_rng(0)
    weights = {
        layer.name: rng.integers(1, 5, layer.out_channels) for layer in network.graph.weighted
    }
    weights["block1.conv2"][:4] = 0
    tensors = {layer.name: np.array(6) for layer in network.graph}
    tensors["depthwise"] = rng.integers(3, 7, 24)
    bits = BitWidths(weights, tensors)
    return quantize(network, bits, calibrate(network, digits.calibration(64)))


@pytest.fixture(scope="module")
def whole_run(start):
    """A run without interruption: the states after its epochs, as checkpoints, and its outcome."""
    found = []
    outcome = finetune(start, images(), SHORT, checkpoint=lambda s: found.append(_copy(s)))
    return found, outcome


@pytest.fixture(scope="module")
def tuned(whole_run):
    return whole_run[1]


def _copy(state):
    def each(tensors):
        return {name: tensor.clone() for name, tensor in tensors.items()}

    return replace(
        state, leaves=each(state.leaves), best=each(state.best), means=each(state.means),
        squares=each(state.squares), history=list(state.history),
    )  # fmt: skip


def assert_equal(first, second):
    for name, (weight, bias) in first.parameters.items():
        assert torch.equal(weight, second.parameters[name][0])
        assert torch.equal(bias, second.parameters[name][1])
    assert first.activations == second.activations


def test_a_student_begins_as_the_network_that_it_is_made_of(start):
    student = Student(start)
    before = student.quantized()
    for name, (weight, bias) in start.parameters.items():
        assert torch.equal(before.parameters[name][0], weight)
        assert torch.equal(before.parameters[name][1], bias)
        assert np.array_equal(before.index(name), start.index(name))
    for name, quantizer in start.activations.items():
        if name != "depthwise":  # its steps are of single precision when they are trained
            assert before.activations[name].step == pytest.approx(quantizer.step, rel=1e-7)
    assert student.codes_moved() == 0
    batch = digits.test().tensor(0, 8)
    assert torch.allclose(student(batch), start(batch), atol=0.5)


def test_training_lowers_the_loss_on_images_that_it_has_not_seen(tuned, start):
    losses = [epoch.held_out_loss for epoch in tuned.history]
    assert tuned.best.held_out_loss == min(losses) < 0.5 * losses[0]
    assert [epoch.number for epoch in tuned.history] == list(range(7))
    network, held_out = digits_network(), digits.test()
    before, after = (evaluate(network, q, held_out) for q in (start, tuned.quantized))
    assert after.distortion < 0.6 * before.distortion
    assert after.agreement > before.agreement


def test_widths_stay_and_codes_fit_them(tuned, start):
    assert tuned.quantized.bits is start.bits
    assert tuned.codes_moved > 0
    for name in start.parameters:
        bits = tuned.quantized.weights[name].bits
        assert torch.equal(bits, start.weights[name].bits)
        index = tuned.quantized.index(name)
        assert (index >= 0).all()
        assert (index < 2 ** bits.numpy()[:, None]).all()
        assert (tuned.quantized.parameters[name][0][bits == 0] == 0).all()
    for name, before in start.activations.items():
        after = tuned.quantized.activations[name]
        pairs = zip(before, after, strict=True) if isinstance(before, tuple) else [(before, after)]
        assert all((a.bits, a.zero_point) == (b.bits, b.zero_point) for a, b in pairs)


def test_weights_steps_biases_and_activation_steps_are_all_trained(tuned, start):
    dropped_biases = 0
    for name, (_, bias) in start.parameters.items():
        bits = start.weights[name].bits
        now = tuned.quantized
        assert (now.weights[name].step != start.weights[name].step)[bits > 0].any()
        moved_biases = now.parameters[name][1] != bias
        assert moved_biases.any()
        dropped_biases += int(moved_biases[bits == 0].sum())
    assert dropped_biases > 0  # a dropped channel's bias is all that is left to train
    both = tuned.quantized.activations["stem"], start.activations["stem"]
    assert both[0].step != both[1].step


def test_weights_of_dropped_channels_get_no_gradient(start):
    student = Student(start)
    student(digits.test().tensor(0, 8)).square().sum().backward()
    dropped = start.weights["block1.conv2"].bits == 0
    gradient = student.weights["block1.conv2"].weight.grad
    assert dropped.sum() == 4
    assert (gradient[dropped] == 0).all()
    assert (gradient[~dropped] != 0).any(1).all()


def test_a_max_pool_keeps_the_step_of_its_producer(tuned):
    activations = tuned.quantized.activations
    assert activations["pool"] == activations["pointwise"]


def test_the_tuned_network_goes_through_a_packed_file_unchanged(tuned, tmp_path):
    path = tmp_path / "tuned.safetensors"
    save_packed(path, tuned.quantized)
    loaded = load_packed(path, digits_network())
    assert_equal(loaded, tuned.quantized)
    batch = digits.test().tensor(0, 16)
    assert torch.equal(loaded(batch), tuned.quantized(batch))


def test_the_same_seed_gives_the_same_network_and_another_seed_another(tuned, start):
    again = finetune(start, images(), SHORT)
    assert_equal(again.quantized, tuned.quantized)
    assert_histories_equal(again.history, tuned.history)
    other = finetune(start, images(), replace(SHORT, seed=1, epochs=1))
    assert other.history[1].train_loss != tuned.history[1].train_loss


def assert_histories_equal(first, second):
    plain = [(e.number, e.held_out_loss, str(e.train_loss)) for e in first]
    assert plain == [(e.number, e.held_out_loss, str(e.train_loss)) for e in second]


@pytest.mark.parametrize("epoch", [1, 4, 6])
def test_going_on_from_a_checkpoint_ends_in_the_same_network_to_the_bit(
    start, whole_run, tmp_path, epoch
):
    path = tmp_path / "checkpoint.safetensors"
    origin = fingerprint(start, images())
    found, tuned = whole_run
    save_checkpoint(path, found[epoch - 1], origin)
    state = load_checkpoint(path, SHORT, origin, Student(start).leaves())
    updates = []
    again = finetune(
        start, images(), SHORT, state=state, progress=lambda task, done, whole: updates.append(done)
    )
    assert updates == list(range(8 * epoch + 1, 8 * 6 + 1))  # 400 images in batches of 50
    assert_equal(again.quantized, tuned.quantized)
    assert_histories_equal(again.history, tuned.history)
    assert again.best.number == tuned.best.number


def test_an_interruption_leaves_the_checkpoint_of_the_last_whole_epoch(start, tuned, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    origin = fingerprint(start, images())

    def stop(task, done, whole):
        if done > 0.4 * whole:  # in the middle of the third epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(
            start, images(), SHORT, progress=stop,
            checkpoint=lambda state: save_checkpoint(path, state, origin),
        )  # fmt: skip
    state = load_checkpoint(path, SHORT, origin, Student(start).leaves())
    assert [epoch.number for epoch in state.history] == [0, 1, 2]
    assert_equal(finetune(start, images(), SHORT, state=state).quantized, tuned.quantized)


def test_a_checkpoint_of_something_else_is_one_clear_error(start, whole_run, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    origin, leaves = fingerprint(start, images()), Student(start).leaves()
    save_checkpoint(path, whole_run[0][0], origin)
    wanted = SHORT
    with pytest.raises(ValueError, match=r"run with epochs 6, not 5; give the same"):
        load_checkpoint(path, replace(SHORT, epochs=5), origin, leaves)
    with pytest.raises(ValueError, match=r"of another network, allocation or set of images"):
        load_checkpoint(path, wanted, fingerprint(start, digits.train_images()), leaves)
    with pytest.raises(ValueError, match=r"no leaves of 'weights/new/weight' of shape \(2,\)"):
        load_checkpoint(path, wanted, origin, {"weights/new/weight": torch.zeros(2)})
    with pytest.raises(ValueError, match="not a checkpoint of fine-tuning"):
        load_checkpoint(digits.WEIGHTS, wanted, origin, leaves)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"cut\.safetensors: not a whole checkpoint"):
        load_checkpoint(cut, wanted, origin, leaves)


def test_losses_by_hand():
    wanted = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1.0, 1.0, 2.0]]))
    logits = torch.log(torch.tensor([[0.25, 0.25, 0.5], [2.0, 2.0, 4.0]]))
    # the second image's prediction is the same; the first costs (log 2) / 2 - (log 2) / 4
    assert kl_loss(logits, wanted).item() == pytest.approx(np.log(2) / 4 / 2, rel=1e-5)
    # (log 2)^2 twice, and three times
    assert logit_loss(logits, wanted).item() == pytest.approx(np.log(2) ** 2 * 5 / 2, rel=1e-5)


def test_the_learning_rate_rises_and_falls_to_zero():
    rates = [learning_rate(0.5, done, 100) for done in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)  # a fifth of it: five updates of warming up
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert rates[49] == pytest.approx(0.25, rel=0.05)
    assert 0 < rates[-1] < 0.001


def test_held_out_images_are_none_of_those_trained_on():
    training, held_out = divide(images(), SHORT)
    assert (len(training), len(held_out)) == (400, 100)
    assert not set(training.index) & set(held_out.index)
    assert set(training.index) | set(held_out.index) == set(images().index)


def test_images_move_by_whole_pixels_and_mirror():
    image = torch.arange(16.0).reshape(1, 1, 4, 4).expand(200, 1, 4, 4)
    generator = torch.Generator().manual_seed(0)
    found = {
        tuple(made.ravel().tolist())
        for made in moved(image, Schedule(shift=1, flip=True), generator)
    }
    padded = torch.nn.functional.pad(image[:1], (1, 1, 1, 1), mode="replicate")
    cuts = [padded[0, 0, r : r + 4, c : c + 4] for r in range(3) for c in range(3)]
    mirrored = torch.nn.functional.pad(image[:1].flip(3), (1, 1, 1, 1), mode="replicate")
    cuts += [mirrored[0, 0, r : r + 4, c : c + 4] for r in range(3) for c in range(3)]
    assert found == {tuple(cut.ravel().tolist()) for cut in cuts}


def test_senseless_schedules_and_too_few_images_are_refused(start):
    with pytest.raises(ValueError, match="no loss 'logit'; did you mean 'logits'"):
        Schedule(loss="logit")
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        Schedule(epochs=0)
    with pytest.raises(ValueError, match="rate must lie above 0 and up to 1, got nan"):
        Schedule(rate=float("nan"))
    with pytest.raises(ValueError, match="held_out must lie between 0 and 1"):
        Schedule(held_out=1.0)
    with pytest.raises(ValueError, match="60 images leave 48 to train on, which make no batch"):
        finetune(start, images().take(slice(0, 60)), SHORT)


def test_training_that_only_harms_gives_back_the_start(start):
    good = replace(SHORT, rate=0.5, epochs=1)
    fine = quantize(
        digits_network(), BitWidths(8, 8), calibrate(digits_network(), digits.calibration(64))
    )
    outcome = finetune(fine, images(), good)
    assert outcome.best.number == 0
    assert outcome.history[1].held_out_loss > outcome.history[0].held_out_loss
    assert outcome.codes_moved == 0
    for name, (weight, bias) in fine.parameters.items():
        assert torch.equal(outcome.quantized.parameters[name][0], weight)
        assert torch.equal(outcome.quantized.parameters[name][1], bias)


def test_a_loss_that_is_no_number_is_one_clear_error(start):
    weight, bias = start.parameters["classifier"]
    parameters = {**start.parameters, "classifier": (weight, bias * float("nan"))}
    with pytest.raises(ValueError, match="the loss of the network given is nan"):
        finetune(replace(start, parameters=parameters), images(), SHORT)
    good = images()
    shown = divide(good, SHORT)[0].index[7]  # an image that is trained on

    def pixels(i):
        return np.full((8, 8, 1), np.nan, dtype=np.float32) if i == shown else good.pixels(i)

    with pytest.raises(ValueError, match=r"the loss became nan in epoch 1; lower the learning"):
        finetune(start, replace(good, pixels=pixels), SHORT)
