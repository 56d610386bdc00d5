import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread_one_seed():
    """Tiny tensors gain nothing from threads, and every draw starts from the same seed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
