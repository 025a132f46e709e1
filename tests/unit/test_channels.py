import asyncio
import threading

import pytest

from streamer.channels import Closed, LatestSlot, Mailbox


def test_slot_keeps_the_newest_and_counts_what_it_overwrote():
    slot = LatestSlot[int]()
    for number in range(5):
        slot.put(number)
    assert slot.get() == 4
    assert slot.dropped == 4


def test_slot_get_times_out_when_nothing_comes():
    with pytest.raises(TimeoutError):
        LatestSlot[int]().get(timeout=0.01)


async def test_slot_hands_items_from_a_thread_to_a_task():
    slot = LatestSlot[int]()
    threading.Timer(0.02, slot.put, [7]).start()
    assert await asyncio.wait_for(slot.aget(), 2) == 7


async def test_patience_gives_the_item_that_comes_meanwhile():
    slot = LatestSlot[int]()
    slot.put(1)
    threading.Timer(0.02, slot.put, [2]).start()
    assert await asyncio.wait_for(slot.aget(patience=10), 2) == 2
    assert slot.dropped == 1


async def test_patience_ends_with_the_item_that_is_there():
    slot = LatestSlot[int]()
    slot.put(1)
    assert await asyncio.wait_for(slot.aget(patience=0.01), 2) == 1
    assert slot.dropped == 0


async def test_patience_does_not_hold_up_the_first_item():
    slot = LatestSlot[int]()
    threading.Timer(0.02, slot.put, [1]).start()
    assert await asyncio.wait_for(slot.aget(patience=60), 2) == 1


async def test_closing_ends_patience():
    slot = LatestSlot[int]()
    slot.put(1)
    threading.Timer(0.02, slot.close).start()
    with pytest.raises(Closed):
        await asyncio.wait_for(slot.aget(patience=60), 2)


async def test_closing_wakes_a_waiting_task_and_a_waiting_thread():
    slot = LatestSlot[int]()
    woken = threading.Event()

    def wait() -> None:
        with pytest.raises(Closed):
            slot.get()
        woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    task = asyncio.create_task(slot.aget())
    await asyncio.sleep(0.02)
    slot.close()
    slot.close()
    with pytest.raises(Closed):
        await task
    await asyncio.to_thread(thread.join, 2)
    assert woken.is_set()


async def test_slot_gives_nothing_after_close_even_if_it_was_full():
    slot = LatestSlot[int]()
    slot.put(1)
    slot.close()
    slot.put(2)
    with pytest.raises(Closed):
        await slot.aget()


async def test_mailbox_drops_the_oldest_and_counts():
    box = Mailbox[int](2)
    for number in range(5):
        box.put(number)
    assert [await box.get(), await box.get()] == [3, 4]
    assert box.dropped == 3


async def test_mailbox_gives_what_it_has_before_it_says_closed():
    box = Mailbox[int](2)
    box.put(1)
    box.close()
    box.put(2)
    assert await box.get() == 1
    for _ in range(2):
        with pytest.raises(Closed):
            await box.get()
