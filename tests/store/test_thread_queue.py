"""Threads get a lock in the order in which they came."""

import threading
import time

from gatepost.store.thread_queue import ThreadQueue


def test_many_threads_have_their_turns_in_the_order_in_which_they_came():
    lock, order = ThreadQueue(), []

    def take(number):
        assert lock.acquire(60)
        order.append(number)
        lock.release()

    threads = [threading.Thread(target=take, args=(number,)) for number in range(20)]
    assert lock.acquire(60)
    for number, thread in enumerate(threads, start=1):
        thread.start()
        while lock.waiting < number:
            time.sleep(0.001)
    assert not lock.acquire(0.001), "it is held, and who has given up has left the queue"
    assert lock.waiting == 20
    lock.release()
    for thread in threads:
        thread.join()
    assert order == [*range(20)]
    assert lock.acquire(0)
    assert not lock.acquire(0)
