"""Gatepost, a filtering SMTP proxy.

The life of a message, file by file:

    cli            arguments -> Config -> run; the only print and exit status
    workers        RUN MANY: several processes that share the port
    supervisor     KEEP ALIVE: starts and replaces them; sockets that outlive them
    service        RUN: settings -> store, relay, gateway, listeners; signals
    open_files     as many as the connections need
    config         rules.yaml -> typed settings; errors with file:line:column
    loader         rules.yaml entry -> filter class -> instance -> Rule (the only user of PluginManager)
    addresses      what all spellings of one mailbox have in common
    mail           the nouns: Session, Recipient, Envelope, Message, Transaction
    mime           READ: message octets -> headers, texts, attachments
    values         what nouns and answers are: frozen dataclasses, made fast
    verdict        the answers: Action, Reply, Verdict, Decision; reply_template fills a rule's reply
    rule           an entry of rules, ready to be asked
    hookspecs      the filter contract
    server         RECEIVE: SMTP session -> Transaction; Reply -> wire (the only import of aiosmtpd)
    pipeline       DECIDE: rules in file order -> Decision
    gateway        ACT: Decision -> relay, quarantine, discard, inbox, refuse -> Reply
    edits, trace   EDIT: header fields added and removed; the Received field
    relay          SEND: Transaction -> upstream -> Reply (the only import of aiosmtplib)
    store          KEEP: journal, quarantine, inbox (the only import of SQLAlchemy)
    explain        what each rule says of a message
    release        a message leaves quarantine
    record         what is written down of a transaction
    events         TELL: bounded, never blocking
    metrics        COUNT: what the workers do, in shared memory
    testing        the test kit for filter authors

What this module exports is the public API for filter authors.
"""

from gatepost.addresses import mailbox_key
from gatepost.edits import AddHeader, Edit, PrefixSubject, RemoveHeader
from gatepost.hookspecs import hookimpl
from gatepost.mail import Envelope, Message, Recipient, Session, Transaction
from gatepost.mime import Attachment, Header, MimeView, Text
from gatepost.record import Record
from gatepost.verdict import Action, Match, Reply, Sending, Verdict

__all__ = [
    "Action",
    "AddHeader",
    "Attachment",
    "Edit",
    "Envelope",
    "Header",
    "Match",
    "Message",
    "MimeView",
    "PrefixSubject",
    "Recipient",
    "Record",
    "RemoveHeader",
    "Reply",
    "Sending",
    "Session",
    "Text",
    "Transaction",
    "Verdict",
    "hookimpl",
    "mailbox_key",
]
