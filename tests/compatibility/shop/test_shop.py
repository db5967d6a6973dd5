"""The made-up shop's own tests. They know nothing of the broker: Ottla's fixture or Apache Kafka (conftest)."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from tests.compatibility.shop.service import (
    Cashier,
    DeclinedError,
    Order,
    Outbox,
    Shop,
    Stock,
    UnavailableError,
    Warehouse,
    deliver,
    headers_of,
    json_of,
    replay,
    send,
    text,
)

ADA = Order("1", "ada", "chair")


class Provider:
    """Payments: what the next calls do, then every one is accepted."""

    def __init__(self, *outcomes: Exception) -> None:
        self.paid: list[str] = []
        self._outcomes = list(outcomes)

    def __call__(self, order: Order) -> str:
        if self._outcomes:
            raise self._outcomes.pop(0)
        self.paid.append(order.id)
        return f"receipt-{order.id}"


def ids(shop: Shop, name: str) -> list[str]:
    return [json_of(message)["id"] for message in shop.read(name)]


def reserve(shop: Shop, *orders: Order) -> None:
    for order in orders:
        send(shop.records, shop.topic("reservations"), order.customer, vars(order))
    deliver(shop.records)


# Orders


def test_an_order_is_published_with_its_customer_and_source(shop: Shop) -> None:
    shop.place(ADA)
    (message,) = shop.read("orders")
    assert text(message.key()) == "ada"
    assert json_of(message) == {"id": "1", "customer": "ada", "article": "chair", "count": 1}
    assert headers_of(message) == {"source": "web"}


def test_an_order_that_makes_no_sense_publishes_nothing_of_the_basket(shop: Shop) -> None:
    with pytest.raises(ValueError, match="0 pieces"):
        shop.place(ADA, Order("2", "ada", "chair", 0))
    assert shop.read("orders") == []


def test_orders_of_a_customer_stay_in_their_order(shop: Shop) -> None:
    shop.place(*(Order(f"{customer}{number}", customer, "chair") for number in range(20) for customer in "abcde"))
    read = ids(shop, "orders")
    for customer in "abcde":
        assert [one for one in read if one[0] == customer] == [f"{customer}{number}" for number in range(20)]


def test_an_order_too_large_for_the_topic_is_refused_by_the_broker(shop: Shop) -> None:
    admin = AdminClient({"bootstrap.servers": shop.bootstrap_servers, "log_level": 0})
    topic = NewTopic(shop.topic("small"), 1, config={"max.message.bytes": "1000"})
    admin.create_topics([topic])[topic.topic].result(20)
    send(shop.records, topic.topic, "ada", "x" * 2000)
    with pytest.raises(KafkaException) as caught:
        deliver(shop.records)
    assert caught.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE


# Stock


def test_the_last_count_of_an_article_is_its_stock(shop: Shop) -> None:
    stock = Stock(shop)
    for article, count in (("chair", 3), ("table", 1), ("chair", 7)):
        stock.set(article, count)
    assert stock.load() == {"chair": 7, "table": 1}


def test_an_article_that_is_given_up_is_not_in_stock(shop: Shop) -> None:
    stock = Stock(shop)
    stock.set("chair", 3)
    stock.set("chair", None)
    assert stock.load() == {}


def test_the_stock_is_a_compacted_topic(shop: Shop) -> None:
    admin = AdminClient({"bootstrap.servers": shop.bootstrap_servers, "log_level": 0})
    resource = ConfigResource(ResourceType.TOPIC, shop.topic("stock"))
    assert admin.describe_configs([resource])[resource].result(20)["cleanup.policy"].value == "compact"


# Warehouse


def test_what_is_in_stock_is_reserved(shop: Shop) -> None:
    Stock(shop).set("chair", 1)
    shop.place(ADA)
    with Warehouse(shop) as warehouse:
        assert warehouse.work(1) == 1
    assert ids(shop, "reservations") == ["1"]
    assert ids(shop, "rejections") == []


def test_what_is_not_in_stock_is_rejected(shop: Shop) -> None:
    Stock(shop).set("chair", 1)
    shop.place(Order("1", "ada", "chair", 2), Order("2", "ada", "sofa"))
    with Warehouse(shop) as warehouse:
        assert warehouse.work(2) == 2
    assert ids(shop, "rejections") == ["1", "2"]
    assert ids(shop, "reservations") == []


def test_the_stock_goes_down_until_it_is_gone(shop: Shop) -> None:
    stock = Stock(shop)
    stock.set("chair", 5)
    shop.place(*(Order(str(number), "ada", "chair", 2) for number in range(3)))
    with Warehouse(shop) as warehouse:
        assert warehouse.work(3) == 3
    assert stock.load() == {"chair": 1}
    assert ids(shop, "rejections") == ["2"]


def test_another_warehouse_goes_on_where_the_first_has_stopped(shop: Shop) -> None:
    Stock(shop).set("chair", 9)
    shop.place(*(Order(str(number), "ada", "chair") for number in range(4)))
    for _ in range(2):
        with Warehouse(shop) as warehouse:
            assert warehouse.work(2) == 2
    assert ids(shop, "reservations") == ["0", "1", "2", "3"]


def test_an_order_that_was_not_done_is_handled_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    Stock(shop).set("chair", 9)
    shop.place(ADA)
    with monkeypatch.context() as patched:
        patched.setattr(Stock, "load", lambda self: 1 // 0)
        with Warehouse(shop) as warehouse, pytest.raises(ZeroDivisionError):
            warehouse.work(1)
    with Warehouse(shop) as warehouse:
        assert warehouse.work(1) == 1
    assert ids(shop, "reservations") == ["1"]


def test_two_warehouses_share_the_orders(shop: Shop) -> None:
    with Warehouse(shop) as one, Warehouse(shop) as other:
        shop.place(*(Order(str(number), f"customer-{number}", "chair") for number in range(30)))
        shares: list[int] = []
        for _ in range(200):
            handled = one.work(1, 0.1) + other.work(1, 0.1)
            shares = sorted(len(worker.consumer.assignment()) for worker in (one, other)) if handled else shares
            if shares == [1, 2]:
                break
        assert shares == [1, 2]
        while one.work(1, 0.2) + other.work(1, 0.2):
            pass
    assert {int(order) for order in ids(shop, "rejections")} == set(range(30))


# Payments


def test_a_reservation_is_paid_once(shop: Shop) -> None:
    reserve(shop, ADA)
    provider = Provider()
    with Cashier(shop, provider) as cashier:
        assert cashier.work(1) == 1
    with Cashier(shop, provider) as cashier:
        assert cashier.work(1, 0.5) == 0
    (payment,) = shop.read("payments")
    assert headers_of(payment) == {"receipt": "receipt-1", "attempts": "1"}
    assert provider.paid == ["1"]


def test_a_crash_before_the_commit_leaves_nothing_and_the_next_cashier_does_it(shop: Shop) -> None:
    reserve(shop, ADA)
    with Cashier(shop, Provider(RuntimeError("power"))) as cashier, pytest.raises(RuntimeError, match="power"):
        cashier.work(1)
    assert shop.read("payments") == []
    with Cashier(shop, Provider()) as cashier:
        assert cashier.work(1) == 1
    assert ids(shop, "payments") == ["1"]


def test_a_declined_card_is_not_tried_again(shop: Shop) -> None:
    reserve(shop, ADA)
    with Cashier(shop, Provider(DeclinedError("no money"))) as cashier:
        assert cashier.work(1) == 1
    (declined,) = shop.read("declined")
    assert headers_of(declined) == {"reason": "no money"}
    assert [shop.read(name) for name in ("payments", "retries", "dead-letters")] == [[], [], []]


def test_a_provider_that_is_away_is_asked_again(shop: Shop) -> None:
    reserve(shop, ADA)
    with Cashier(shop, Provider(UnavailableError("closed"))) as cashier:
        assert cashier.work(2) == 2
    (payment,) = shop.read("payments")
    assert headers_of(payment)["attempts"] == "2"
    assert ids(shop, "retries") == ["1"]


def test_the_third_failure_makes_a_dead_letter(shop: Shop) -> None:
    reserve(shop, ADA)
    with Cashier(shop, Provider(*(UnavailableError("closed") for _ in range(3)))) as cashier:
        assert cashier.work(3) == 3
    (letter,) = shop.read("dead-letters")
    assert json_of(letter) == vars(ADA)
    assert headers_of(letter) == {"reason": "closed", "attempts": "3"}
    assert shop.read("payments") == []


def test_dead_letters_are_replayed(shop: Shop) -> None:
    reserve(shop, ADA)
    with Cashier(shop, Provider(*(UnavailableError("closed") for _ in range(3)))) as cashier:
        cashier.work(3)
        assert replay(shop) == 1
        assert cashier.work(1) == 1
    assert ids(shop, "payments") == ["1"]


# Outbox


def test_rows_of_the_outbox_become_events_once(shop: Shop) -> None:
    outbox = Outbox(shop)
    outbox.rows += [{"id": "1", "event": "ordered"}, {"id": "1", "event": "paid"}]
    assert outbox.publish() == 2
    assert outbox.publish() == 0
    assert [json_of(message)["event"] for message in shop.read("events")] == ["ordered", "paid"]


def test_a_round_that_fails_publishes_nothing(shop: Shop) -> None:
    outbox = Outbox(shop)
    outbox.rows += [{"id": "1", "event": "ordered"}, {"id": "2"}]
    with pytest.raises(KeyError):
        outbox.publish()
    assert shop.read("events") == []
    outbox.rows[1]["event"] = "paid"
    assert outbox.publish() == 2
    assert [json_of(message)["event"] for message in shop.read("events")] == ["ordered", "paid"]


def test_an_outbox_that_was_replaced_is_fenced(shop: Shop) -> None:
    old = Outbox(shop)
    old.rows.append({"id": "1", "event": "from the old one"})
    new = Outbox(shop)
    with pytest.raises(KafkaException) as caught:
        old.publish()
    assert caught.value.args[0].fatal()
    assert caught.value.args[0].code() == KafkaError._FENCED
    new.rows.append({"id": "1", "event": "from the new one"})
    assert new.publish() == 1
    assert [json_of(message)["event"] for message in shop.read("events")] == ["from the new one"]


# All of it


def test_an_order_goes_all_the_way(shop: Shop) -> None:
    Stock(shop).set("chair", 2)
    shop.place(ADA, Order("2", "bob", "chair", 5))
    with Warehouse(shop) as warehouse, Cashier(shop, Provider()) as cashier:
        assert warehouse.work(2) == 2
        assert cashier.work(1) == 1
    assert ids(shop, "payments") == ["1"]
    assert ids(shop, "rejections") == ["2"]
    assert Stock(shop).load() == {"chair": 1}
