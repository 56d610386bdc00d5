"""What a network ran with: recorded among the versions of an artifact, and compared with what is asked for."""

from collections.abc import Mapping

from stages.settings.base import Settings

AUTO = "auto"  # asks for nothing
UNRECORDED = "an unrecorded"  # in files of earlier versions


def asked(settings: Settings, name: str) -> str | None:
    """The setting ``name`` of a stage that runs a network, such as its device; None if it runs none."""
    return next((value for each, _, value in settings.leaves() if each == name), None)


def computed_with(settings: Settings) -> dict[str, str]:
    """Device, precision and what else decides the last bits of a network's results; nothing if the stage runs none.

    device: cpu or the name of the CUDA device. threads: of torch. instructions: the vector instructions of the CPU.
    compiled: yes, if torch.compile compiled what learned.
    """
    device, precision = asked(settings, "device"), asked(settings, "precision")
    if device is None or precision is None:
        return {}
    import torch

    from stages.runtime.devices import choose_device, chosen_precision

    used = choose_device(device)
    found = {
        "device": "cpu" if used.type == "cpu" else torch.cuda.get_device_name(used),
        "precision": chosen_precision(precision, used),
        "threads": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if asked(settings, "compile"):
        found["compiled"] = "yes"
    if used.type == "cuda":
        found |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
        # In float32, convolutions and products round their factors to TF32, unless this is off.
        found["tf32"] = "on" if torch.backends.cudnn.allow_tf32 else "off"
    return found


def device_type(device: str | None) -> str | None:
    """cpu or cuda, of a recorded device; None stays."""
    return device if device in (None, "cpu") else "cuda"


def computed_otherwise(versions: Mapping[str, str], device: str | None, precision: str | None) -> list[str]:
    """How an artifact with the recorded ``versions`` was computed, in words, if that is not what is asked for."""
    on, used = versions.get("device"), versions.get("precision")
    found = []
    if device not in (None, AUTO, device_type(on)):
        found.append(f"it was computed on {on or f'{UNRECORDED} device'}, not on {device}")
    if precision not in (None, AUTO, used):
        found.append(f"it was computed in {used or f'{UNRECORDED} precision'}, not in {precision}")
    return found
