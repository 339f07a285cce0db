"""The examples run, and print what they promise. Examples that train for minutes are left out."""

from __future__ import annotations

import re
import sys

import pytest

from examples import buffer_study, export, latency_target, own_accelerator, own_network


def numbers(text: str, pattern: str) -> list[float]:
    return [float(found.replace(",", "")) for found in re.findall(pattern, text)]


def test_an_accelerator_of_ones_own_gains_more_from_narrow_operands_than_the_tpu(capsys):
    own_accelerator.main()
    own, tpu = capsys.readouterr().out.split("mobilenet_v2 on tpu_v1")
    assert own.startswith("mobilenet_v2 on small_array")
    speedups, published = (numbers(text, r"([\d.]+)x over W8A8") for text in (own, tpu))
    assert speedups[0] == published[0] == 1
    assert speedups == sorted(speedups)
    assert speedups[2] > published[2] > 1


def test_a_network_of_ones_own_keeps_its_accuracy_with_allocated_widths(capsys):
    own_network.main()
    out = capsys.readouterr().out
    floating, _, allocated = numbers(out, r"top-1 ([\d.]+) %")
    assert floating > 90
    assert allocated > floating - 3
    equal_distortion, allocated_distortion = numbers(out, r"distortion ([\d.]+)")
    assert allocated_distortion < equal_distortion
    shown = re.findall(r"^  \w+: ([2-8]+)$", out, re.MULTILINE)
    assert [len(widths) for widths in shown] == [16, 32, 10]


def test_a_latency_target_is_met_or_said_to_be_out_of_reach(capsys):
    latency_target.main()
    out = capsys.readouterr().out
    met = re.findall(r"at most ([\d.]+) ms: ([\d.]+) ms with ([\d.]+) bits", out)
    assert len(met) == 2
    assert all(float(taken) <= float(limit) for limit, taken, _ in met)
    assert float(met[0][2]) > float(met[1][2])  # less time, fewer bits
    assert "cannot be met: " in out


def test_a_larger_buffer_never_moves_more_and_narrow_activations_need_less(capsys):
    buffer_study.main()
    out = capsys.readouterr().out
    for row in re.findall(r"^  MB +(.*)$", out, re.MULTILINE):
        moved = [float(value) for value in row.split()]
        assert len(moved) == len(buffer_study.SIZES_KIB)
        assert moved == sorted(moved, reverse=True)
    wide, _, narrow = numbers(out, r"fit from ([\d,]+) KiB")
    assert narrow == wide / 2


def test_an_exported_network_is_the_same_network(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime", reason="extra interop")
    monkeypatch.setattr(sys, "argv", ["export", str(tmp_path)])
    export.main()
    out = capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"digits.safetensors", "digits.onnx"}
    weights, metadata = numbers(out, r"([\d,]+) bits of weights") + numbers(out, r"([\d,]+) of sc")
    (payload,) = numbers(out, r"biases in ([\d,]+) bytes")
    assert 8 * payload - 8 < weights + metadata <= 8 * payload
    assert "the same logits on 500 images: True" in out
    assert numbers(out, r"same class for ([\d.]+) %")[0] >= 99
