"""Words in links of mail, by what they say about the link, in the languages in which much mail is sent."""

import re

__all__ = ["ACTIONS", "FURNITURE", "GENERIC", "NEVER", "SHOWS", "SIGN_IN"]

_SPACED_SCRIPTS = "\u0530"
"""Below it: Latin, Greek and Cyrillic, in which a word begins after a space."""


def _beginnings(lines: str) -> re.Pattern[str]:
    """Finds words that begin with one of these; in scripts without spaces also within others."""
    words = [word.strip() for line in lines.strip().splitlines() for word in line.split(",") if word.strip()]
    found = [rf"\b{re.escape(word)}" if word < _SPACED_SCRIPTS else re.escape(word) for word in words]
    return re.compile("|".join(found), re.IGNORECASE)


ACTIONS = _beginnings("""
    reset, confirm, verify, verification, activat, reactivat, validat, unlock, recover, restore
    authoriz, authoris, approve
    accept, join, rsvp, claim, magic link, set password, set a password, set your password, set up
    set a new password
    create password, create a password, create your password, create a new password, choose a password
    choose password
    choose a new password, change password, change your password, update password
    update your password
    complete registration, complete your, complete sign, finish sign, finish setting up, finish your
    bestätig, zurücksetz, passwort, kennwort, aktivier, freischalt, annehmen, einladung annehmen
    confirme, vérifi, réinitialis, activer, valide, accepte, rejoin, mot de passe
    confirma, restablec, verific, activa, acept, unirse, contraseña
    conferma, reimposta, ripristin, verifica, attiva, accetta, redefin, ative, ativar, senha
    bevestig, opnieuw instellen, herstel, activeer, accepteer, wachtwoord
    bekräfta, bekræft, bekreft, återställ, nulstil, tilbakestill, aktivera, aktivér, vahvista, palauta
    potwierd, zresetuj, aktywuj, potvrd, potvrď, obnov, erősít, visszaállít, onayla, doğrula, sıfırla
    подтверд, сброс, активир, восстанов, принять, підтверд, скинут, активуват, επιβεβαί, επαναφορ
    ενεργοπ
    xác nhận, xác minh, đặt lại, konfirmasi, verifikasi, atur ulang
    确认, 確認, 验证, 驗證, 認証, 検証, 重置, 重設, 再設定, リセット, 有効化, 激活, 啟用, 接受, 承認
    인증, 확인, 재설정
    تأكيد, تفعيل, إعادة تعيين, אישור, אימות, איפוס, पुष्टि, सत्यापित, रीसेट, ยืนยัน, รีเซ็ต
""")
"""A link that does something only the recipient can do."""

SIGN_IN = _beginnings("""
    sign in, signing in, sign-in, log in, logging in, log-in, login, signin, sign into, log into
    anmelden, anmeldung, einloggen, se connecter, connexion, connectez, iniciar sesión, inicia sesión
    acceder, accedi
    entrar, inloggen, logga in, log ind, logg inn, kirjaudu, zaloguj, přihlásit, bejelentkez, giriş
    войти, вход, увійти, σύνδεση, đăng nhập, masuk
    登录, 登入, ログイン, サインイン, 로그인, تسجيل الدخول, התחבר, लॉग इन, เข้าสู่ระบบ
""")
"""They count only with a token or a button: many messages have a link to the login page."""

SHOWS = _beginnings("""
    view, open, show, track, pay, download, print, renew, continue, get started, review, rate, reply
    respond, book
    check-in, check in, see your, see the, see details, invoice, receipt, order, booking, ticket
    statement, document
    ansehen, anzeigen, öffnen, verfolgen, bezahlen, herunterladen, rechnung, bestellung, fortfahren
    loslegen
    voir, afficher, ouvrir, suivre, payer, télécharger, facture, commande, continuer
    ver tu, ver su, ver el, ver la, abrir, seguir, pagar, descargar, factura, pedido, continuar
    visualizza, apri, paga, scarica, fattura, ordine
    baixar, fatura, bekijk, betaal, volg, factuur, visa, öppna, betala, faktura, zobacz, zapłać
    pobierz
    посмотреть, открыть, оплатить, скачать, отследить, заказ, счет
    查看, 打开, 打開, 支付, 付款, 下载, 下載, 表示, 開く, 支払, ダウンロード, 보기, 열기, 결제
    다운로드, عرض, دفع, تحميل, צפייה
""")
"""A link to what the message is about."""

GENERIC = re.compile(
    r"""\W*(?:(?:(?:click|tap|press)\ )?(?:here|(?:on\ )?(?:this|the)\ (?:link|button)(?:\ below)?|link)
    |go|ok|yes
    |(?:bitte\ |klicken\ sie\ )*(?:hier|diesen?\ link)|(?:cliquez\ |cliquer\ )?(?:ici|sur\ ce\ lien|ce\ lien)
    |(?:haga\ clic\ |haz\ clic\ |pulsa\ )?(?:aquí|este\ enlace)|(?:clicca\ )?(?:qui|questo\ link)
    |(?:clique\ )?aqui|este\ link|(?:klik\ )?hier|deze\ link|här|her|tutaj|tu|здесь|сюда
    |此处|这里|此處|這裡|点击此处|点击这里|點此|こちら|여기|هنا|כאן)\W*""",
    re.IGNORECASE | re.VERBOSE,
)
"""Words that say nothing; the text before them does."""

NEVER = _beginnings("""
    unsubscri, opt out, opt-out, abmeld, newsletter abmelden, abbestell, austragen, désabonn
    désinscri
    darse de baja, date de baja, cancelar suscri, cancelar la suscri, anular, disiscri, annulla l
    cancelar inscri
    cancelar a inscri, cancelar assinatura, descadastr, uitschrijv, afmeld, avregistrer
    avsluta prenum, meld av, frameld
    wypisz, odhlás, leiratkoz, отписа, відписа, hủy đăng ký, abonelikten, berhenti berlangganan
    退订, 退訂, 取消订阅, 取消訂閱, 配信停止, 購読解除, 登録解除, 수신거부, 수신 거부, إلغاء الاشتراك
    הסרה
    in your browser, in browser, in a browser, in the browser, in your web browser, online version
    web version
    im browser, dans votre navigateur, dans le navigateur, en tu navegador, en su navegador
    en el navegador
    nel browser, no navegador, in je browser, in uw browser, ブラウザで, 浏览器
    forward to a friend, didn't request, didn’t request, did not request, didn't make, didn’t make
    did not make
    not me, not you, wasn't me, wasn’t me, wasn't you, wasn’t you, report this, report abuse, decline
    ablehnen
""")
"""A link that hardly anybody means."""

FURNITURE = _beginnings("""
    preferences, e-mail preferences, email preferences, notification settings, settings, einstellungen
    préférences
    preferencias, preferenze, privacy, datenschutz, confidentialité, privacidad, cookie, terms
    conditions, agb
    nutzungsbedingungen, imprint, impressum, legal, mentions, contact, kontakt, support, help, hilfe
    aide, ayuda, aiuto
    faq, about, über uns, blog, careers, jobs, home, my account, your account, mein konto, mon compte
    mi cuenta
    follow us, facebook, twitter, instagram, linkedin, youtube, tiktok, app store, google play
    プライバシー, お問い合わせ, ヘルプ, 隐私, 隱私, 帮助, 幫助, 联系, 聯繫
""")
"""A link that any message may have at its end."""
