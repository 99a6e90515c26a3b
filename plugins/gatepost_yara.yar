/*
  The rules that come with Gatepost's filter yara: what no honest mail has.
  External variables: filename, extension (".exe"), in_archive, vba; see docs/filters/yara.md.
*/

rule test_file
{
  meta:
    description = "the EICAR test file, harmless, for tests of scanners"
  strings:
    // in hexadecimal, so that no scanner takes this file for it
    $eicar = { 58 35 4F 21 50 25 40 41 50 5B 34 5C 50 5A 58 35 34 28 50 5E 29 37 43 43 29 37 7D 24 45 49 43 41 52 }
  condition:
    $eicar
}

private rule program
{
  condition:
    (uint16(0) == 0x5A4D and uint32(0x3C) < filesize and uint16(uint32(0x3C)) == 0x4550)
    or uint32(0) == 0x464C457F
    or uint32(0) == 0xFEEDFACE or uint32(0) == 0xFEEDFACF or uint32(0) == 0xCEFAEDFE or uint32(0) == 0xCFFAEDFE
    or uint32be(0) == 0x4C000000 and uint32be(4) == 0x01140200 // a Windows shortcut
}

rule program_in_disguise
{
  meta:
    description = "a program under the name of a document, picture, sound, film or archive"
  condition:
    program and extension matches /^\.(pdf|docx?|docm|xlsx?|xlsm|pptx?|rtf|txt|csv|html?|eml|ics|jpe?g|png|gif|bmp|webp|svg|mp3|mp4|wav|avi|mov|zip|7z|rar)$/
}

rule script_in_archive
{
  meta:
    description = "a script or shortcut in an archive: opened by a click, and hidden from a look at the attachment's name"
  condition:
    in_archive and filesize > 0 and extension matches /^\.(jse?|vbs|vbe|wsf|wsh|hta|ps1|bat|cmd|lnk|scr|pif)$/
}

rule auto_open_macro
{
  meta:
    description = "a VBA macro that runs when the document is opened"
  strings:
    $module = "Attribut\x00e VB_"
    // the names of macros: in the decompressed source (vba); as identifiers; or in the compressed source, which has
    // a byte of flags here and there, and in which a name that is made of earlier pieces cannot be read
    $open = /(A.?u.?t.?o.?(_.?)?(O.?p.?e.?n|E.?x.?e.?c|C.?l.?o.?s.?e|E.?x.?i.?t)|D.?o.?c.?u.?m.?e.?n.?t.?_?.?(O.?p.?e.?n|C.?l.?o.?s.?e)|W.?o.?r.?k.?b.?o.?o.?k.?_.?(O.?p.?e.?n|A.?c.?t.?i.?v.?a.?t.?e))/is
  condition:
    (vba or uint32be(0) == 0xD0CF11E0 and $module) and $open
}
