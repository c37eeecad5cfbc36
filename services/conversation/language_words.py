"""The words that give a language away, without their accents, as people leave them out.

A word is listed only where it is common in one of the three languages and no word of the other two:
"para", "casa" and "como" are Spanish and Portuguese, "no" is all three; without its accent "dia" is two.
"""

from typing import Final

_WORDS: Final = {
    "en": """
        yes yeah yep hi hello hey thanks thank thx please pls sorry the and is are was were am not you
        your yours i'm im i'll i've it's that's don't dont can't cant won't didn't my this that these
        those what when where who why how which with without from have had will would could should can get
        got send sent pay paid rent lease fix broken leak call back today tomorrow yesterday morning
        evening night week month money check need want know good great there their they we she his her him
        it of on at be been again already still just now later much many more some any out up down way
        text texting stop wrong number okay sure fine right welcome nope cool perfect awesome see who's
        until soon because before after if then than did does doing doesn't isn't you're she's he's
        there's here new door key water
        """,
    "es": """
        si hola gracias muchas muchos buenos buenas buen noches manana ayer hoy el los las del al y pero
        porque cuando cuanto cuantos donde quien cual usted ustedes mi mis su sus es estan estoy soy muy
        bien tengo tiene tienes hay puedo puede pueden quiero quiere necesito hacer hablar hablamos pague
        llame llamar llamame llameme llamo mandeme renta dinero dueno bano entiendo perdon disculpe disculpa
        senor senora luego entonces ahora otra otro pagare deposito le les lo ese esa eso esto hasta
        tambien jueves viernes lunes martes miercoles la adios nuevo nueva digame listo supuesto perfecto
        fue voy vamos abren cierran estamos tenemos digo mejor mismo misma hermano hermana hijo hija
        """,
    "pt": """
        sim nao ola oi obrigado obrigada obg bom boa bons boas noite amanha ontem hoje o os da das ao aos
        nas em uma mas quando quanto onde quem qual voce voces vc vcs eu meu minha seu sua ele ela estou
        tenho tem posso pode podem quero preciso fazer falar ja paguei vou vai ligar liga aluguel dinheiro
        dono banheiro entendi entendo desculpa desculpe senhor senhora tudo bem depois entao agora isso
        esse essa tambem com sem sexta terca conserto consertar boleto conta alguem muito muita valeu novo
        nova foi beleza perfeito chave pix chego certeza filha filho comprovante torneira vazamento estao
        sao mae pai irmao irma gostaria ligue
        """,
}

# Said in every language, or in none.
_EVERYWHERE: Final = """
        ok k kk no lol haha hahaha jaja jajaja kkk kkkk rs hmm mmm hm ah eh oh uh um a ha wow xd
        idk pdf sms app
        """

NEUTRAL: Final = frozenset(_EVERYWHERE.split())

LANGUAGES: Final = frozenset(_WORDS)

# Language by word.
SEEDS: Final = {word: language for language, words in _WORDS.items() for word in words.split()}

# Letters and signs that only one of the three writes.
LETTERS: Final = {"ñ": "es", "¿": "es", "¡": "es", "ã": "pt", "õ": "pt", "ç": "pt", "ê": "pt", "ô": "pt"}
