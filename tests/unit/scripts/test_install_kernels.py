"""Which packages each GPU kernel asks pip for, and what is said where there is no build."""

import pytest

from scripts.install_kernels import EXIT_MISSING, KERNELS, Machine, NoBuild, main, parse_version

CPU = Machine(torch="2.13.0", cuda=None, nvcc=None)


def machine(cuda: tuple[int, int], nvcc: tuple[int, int] | None = None) -> Machine:
    return Machine(torch="2.13.0", cuda=cuda, nvcc=nvcc)


@pytest.mark.parametrize("name", KERNELS)
def test_cpu_build_of_torch_has_no_kernel(name):
    with pytest.raises(NoBuild, match="CPU build"):
        KERNELS[name].pip_arguments(CPU)


@pytest.mark.parametrize(
    ("cuda", "package"),
    [
        ((11, 8), "spconv-cu118"),
        ((12, 0), "spconv-cu120"),
        ((12, 3), "spconv-cu121"),
        ((12, 8), "spconv-cu126"),
    ],
)
def test_spconv_takes_the_newest_build_not_newer_than_cuda(cuda, package):
    assert KERNELS["spconv"].pip_arguments(machine(cuda))[-1] == package


@pytest.mark.parametrize("cuda", [(11, 7), (13, 0)])
def test_spconv_without_a_build_names_the_versions(cuda):
    with pytest.raises(NoBuild, match=rf"11\.8 and 12\.x, got {cuda[0]}\.{cuda[1]}"):
        KERNELS["spconv"].pip_arguments(machine(cuda))


@pytest.mark.parametrize("name", ["flash-attn", "gsplat", "nvdiffrast", "diffoctreerast"])
@pytest.mark.parametrize("nvcc", [None, (11, 8)])
def test_source_builds_need_the_compiler_of_the_same_cuda(name, nvcc):
    with pytest.raises(NoBuild, match=r"nvcc of CUDA 12\.x"):
        KERNELS[name].pip_arguments(machine((12, 6), nvcc))
    builds_now = "--no-build-isolation" in KERNELS[name].pip_arguments(machine((12, 6), (12, 4)))
    assert builds_now == (name != "gsplat")  # it is compiled at its first use


@pytest.mark.parametrize("name", ["xformers", "kaolin"])
def test_wheels_are_asked_for_the_installed_torch_and_cuda(name):
    arguments = " ".join(KERNELS[name].pip_arguments(machine((12, 6))))
    assert "torch==2.13.0" in arguments and "cu126" in arguments


def test_missing_build_is_reported_and_sets_the_exit_status(monkeypatch, caplog):
    monkeypatch.setattr("scripts.install_kernels.inspect_machine", lambda: CPU)
    with caplog.at_level("WARNING"):
        assert main(["xformers", "spconv"]) == EXIT_MISSING
    assert [record.args[0] for record in caplog.records] == ["xformers", "spconv"]


def test_compiler_report_is_parsed():
    assert parse_version("Cuda compilation tools, release 12.4, V12.4.131".partition("release")[2]) == (12, 4)
    assert parse_version("") is None
