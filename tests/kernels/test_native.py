"""Which implementation computes: the forced one, else the fastest, else the reference."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from irbin.cli.console import logged_as_notes
from irbin.errors import UsageError
from irbin.kernels import native, ops, reference
from irbin.kernels.convolution import FloatConvKernel
from irbin.kernels.geometry import Geometry
from irbin.kernels.passes import PoolKernel, RowsKernel
from irbin.kernels.steps import Step

NATIVE = "irbin.kernels._native"
ROWS = [(one.name, one.supported) for one in native.implementations()]
COMPILED = [name for name, supported in ROWS if supported and name != native.REFERENCE]

CALL_THRICE = """
import numpy as np
from irbin.errors import UsageError
from irbin.kernels import native, ops
bits = np.zeros((1, 2), np.uint8)
try:
    for _ in range(3):
        ops.bgemm(bits, bits, None, None, 16)
except UsageError as error:
    print(error)
else:
    print(native.active(), sorted((k, v) for k, v in native.n_calls().items() if v))
"""


def say(name: str | None) -> str:
    """What a new process prints that calls a kernel three times with IRBIN_KERNELS=`name`."""
    environment = {k: v for k, v in os.environ.items() if k != native.VARIABLE}
    if name is not None:
        environment[native.VARIABLE] = name
    command = [sys.executable, "-P", "-W", "error", "-c", CALL_THRICE]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return found.stdout


class TestForced:
    @pytest.mark.parametrize("name", COMPILED)
    def test_the_named_implementation_runs_and_no_other(self, name):
        assert say(name) == f"{name} [('{name}', 3)]\n"

    def test_the_reference_can_be_forced(self):
        assert say("reference") == "reference []\n"

    @pytest.mark.skipif(not COMPILED, reason="no native kernels here")
    @pytest.mark.parametrize("name", [None, ""], ids=["unset", "empty"])
    def test_else_the_fastest_supported_runs(self, name):
        assert say(name) == f"{COMPILED[0]} [('{COMPILED[0]}', 3)]\n"

    def test_an_unknown_name_is_told_with_those_there_are(self):
        names = ", ".join(["`reference`", *(f"`{n}`" for n, _ in ROWS if n != "reference")])
        assert say("sse9") == f"`IRBIN_KERNELS`: expected one of {names}, got `sse9`\n"


class TestUse:
    def test_an_implementation_of_another_processor_is_told(self, monkeypatch):
        rows = [("sve", "for another processor", ["SVE"], False), ("portable", "C++", [], True)]
        monkeypatch.setattr(native, "_module", SimpleNamespace(implementations=lambda: rows))
        before = native.active()
        with pytest.raises(UsageError) as caught:
            native.use("sve")
        assert str(caught.value) == (
            "`IRBIN_KERNELS`: this processor does not run `sve`; see `irbin kernels` for those it "
            "does"
        )
        assert native.active() == before

    def test_an_unknown_name_leaves_the_active_one(self):
        before = native.active()
        with pytest.raises(UsageError):
            native.use("sse9")
        assert native.active() == before

    def test_the_fastest_that_is_supported_is_chosen(self, monkeypatch):
        used = []
        rows = [("sve", "", ["SVE"], False), ("quick", "", [], True), ("slow", "", [], True)]
        module = SimpleNamespace(implementations=lambda: rows, activate=used.append)
        monkeypatch.setattr(native, "_module", module)
        monkeypatch.setattr(native._State, "active", None)
        monkeypatch.delenv(native.VARIABLE, raising=False)
        assert native.active() == "quick"
        assert used == ["quick"]

    @pytest.mark.parametrize("name", [*COMPILED, native.REFERENCE])
    def test_using_counts_its_calls_and_restores(self, name):
        before, counts = native.active(), native.n_calls()
        with native.using(name):
            assert native.active() == name
            assert native.is_native() == (name != native.REFERENCE)
            assert [one.name for one in native.implementations() if one.active] == [name]
            ops.bitpack(np.zeros((2, 3), np.float32), 1)
        assert native.active() == before
        gained = {k: v - counts[k] for k, v in native.n_calls().items() if v != counts[k]}
        assert gained == ({} if name == native.REFERENCE else {name: 1})

    def test_using_restores_after_an_error(self):
        before = native.active()
        with pytest.raises(ZeroDivisionError), native.using(native.REFERENCE):
            _ = 1 // 0
        assert native.active() == before


class TestImplementations:
    def test_the_reference_is_the_last_and_every_name_stands_once(self):
        names = [name for name, _ in ROWS]
        assert names[-1] == native.REFERENCE
        assert len(set(names)) == len(names)

    @pytest.mark.skipif(not COMPILED, reason="no native kernels here")
    def test_plain_code_is_always_supported(self):
        assert COMPILED[-1] == "portable"

    def test_one_is_unsupported_only_for_what_it_needs(self):
        assert all(one.supported or one.needs for one in native.implementations())


class TestWithoutTheExtension:
    @pytest.fixture(autouse=True)
    def _none(self, monkeypatch):
        monkeypatch.setattr(native, "_module", None)
        monkeypatch.setattr(native._State, "active", None)
        monkeypatch.delenv(native.VARIABLE, raising=False)

    def test_the_reference_is_all_there_is(self):
        (only,) = native.implementations()
        assert (only.name, only.supported, only.active) == ("reference", True, True)
        assert native.n_calls() == {}
        assert native.thread_pool() == "none"

    def test_the_notice_says_why(self, monkeypatch):
        monkeypatch.setattr(native, "_reason", "the reason")
        assert native.notice() == ("packed networks run on the NumPy reference, slowly: the reason")

    def test_forcing_one_is_told(self):
        with pytest.raises(UsageError) as caught:
            native.use("portable")
        assert str(caught.value) == ("`IRBIN_KERNELS`: expected one of `reference`, got `portable`")

    def test_asking_for_the_module_is_told(self, monkeypatch):
        monkeypatch.setattr(native, "_reason", "the reason")
        with pytest.raises(UsageError) as caught:
            native.module()
        assert str(caught.value) == "expected native kernels, but the reason"

    def test_nothing_compiled_it(self):
        assert native.compiler() == ""

    def test_every_operator_computes(self):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((2, 9, 4, 5)).astype(np.float32)
        w = rng.standard_normal((3, 9, 3, 3)).astype(np.float32)
        bits, weight_bits = ops.bitpack(x, 1), ops.bitpack(w, 1)
        assert np.array_equal(bits, reference.bitpack(x, 1))
        y = ops.bconv2d(bits, weight_bits, None, None, 9)
        assert np.array_equal(y, reference.bconv2d(bits, weight_bits, None, None, 9))
        rows, columns = bits.reshape(-1, 2), weight_bits.reshape(-1, 2)
        y = ops.bgemm(rows, columns, None, None, 9)
        assert np.array_equal(y, reference.bgemm(rows, columns, None, None, 9))

    @pytest.mark.parametrize(
        ("kernel", "shape"),
        [
            (RowsKernel(3, [Step("clamp", low=0, high=1)]), (4, 3)),
            (PoolKernel(Geometry((4, 4), (2, 2), (2, 2)), 3), (1, 4, 4, 3)),
            (FloatConvKernel(np.ones((2, 2, 2, 3), "f4"), Geometry((4, 4), (2, 2))), (1, 4, 4, 3)),
        ],
        ids=["rows", "pool", "float convolution"],
    )
    def test_every_kernel_computes(self, kernel, shape):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        out_shape = kernel._out_shape(len(x))
        y, expected = np.zeros(out_shape, np.float32), np.zeros(out_shape, np.float32)
        bits, expected_bits = (np.zeros((*out_shape[:-1], 1), np.uint8) for _ in range(2))
        kernel(x, (), y, bits)
        kernel.define(x, (), expected, expected_bits)
        assert np.array_equal(y, expected)
        assert np.array_equal(bits, expected_bits)


@pytest.mark.skipif(not COMPILED, reason="no native kernels here")
def test_with_the_extension_there_is_nothing_to_notice():
    assert native.notice() == ""


@pytest.mark.skipif(not COMPILED, reason="no native kernels here")
def test_the_compiler_is_named():
    assert native.compiler().startswith(("GCC ", "Clang "))


class TestWhyThereIsNone:
    @pytest.fixture
    def loaded(self, monkeypatch):
        """What loading says when importing the module ends in an error."""

        def load(error: ImportError) -> str:
            monkeypatch.setattr(native.importlib, "import_module", Mock(side_effect=error))
            module, reason = native._load()
            assert module is None
            return reason

        return load

    @pytest.mark.parametrize(
        "said",
        [
            "/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by _native.so)",
            "_native.so: undefined symbol:\n  _ZN5irbin4Conv",
        ],
    )
    def test_the_words_of_the_loader_are_shown_in_one_line(self, loaded, said):
        found = loaded(ImportError(said, name=NATIVE))
        assert found.startswith(
            f"the native kernels cannot be loaded ({' '.join(said.split())}); `pip install -v "
        )
        assert found.endswith(" builds them anew")

    def test_a_module_that_it_needs_and_is_missing_is_named(self, loaded):
        found = loaded(ModuleNotFoundError("No module named 'other'", name="other"))
        assert "cannot be loaded (No module named 'other')" in found

    def test_a_damaged_file_is_told_as_the_loader_tells_it(self, loaded, tmp_path):
        file = tmp_path / f"_native{EXTENSION_SUFFIXES[0]}"
        file.write_bytes(b"damaged")
        spec = spec_from_file_location(NATIVE, file)
        assert spec is not None
        with pytest.raises(ImportError) as caught:
            module_from_spec(spec)
        assert str(file) in loaded(caught.value)


class TestWarned:
    @pytest.fixture(autouse=True)
    def _none(self, monkeypatch):
        monkeypatch.setattr(native, "_module", None)
        monkeypatch.setattr(native, "_reason", "the reason")
        monkeypatch.setattr(native._State, "has_warned", False)

    def test_a_library_user_gets_one_warning_that_names_the_caller(self):
        def load_twice():
            native.warn(), native.warn()

        with pytest.warns(UserWarning, match="slowly: the reason") as caught:
            load_twice()
        (one,) = caught
        assert one.filename == __file__

    def test_who_listens_to_the_log_gets_one_line_there_and_no_warning(self, capsys):
        with logged_as_notes():  # as the command line does; a warning would be an error here
            native.warn()
            native.warn()
        assert capsys.readouterr().err == f"note: {native.notice()}\n"

    def test_where_there_are_kernels_nothing_is_said(self, monkeypatch, capsys):
        monkeypatch.setattr(native, "_module", SimpleNamespace())
        with logged_as_notes():
            native.warn()
        assert capsys.readouterr().err == ""
