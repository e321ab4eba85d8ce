"""Every refusal in plain words: what happened, why, what to do; in English and Vietnamese (experience §11).

The commands, the SDK's hints and docs/reference/codes.md say what stands here and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from speedsms.wire import Code, Reason

Language: TypeAlias = Literal["en", "vi"]
Place: TypeAlias = Reason | Literal[401, 404, 405, 409, 413, 415, 422, 429, 500]


@dataclass(frozen=True, slots=True)
class Words:
    """One refusal in one language."""

    title: str
    cause: str
    fix: str


@dataclass(frozen=True, slots=True)
class Entry:
    """`codes`: those the reason comes with; empty for HTTP statuses of the framework."""

    codes: tuple[Code, ...]
    en: Words
    vi: Words

    def words(self, language: Language) -> Words:
        return self.en if language == "en" else self.vi


def link(place: Place) -> str:
    """Where the documentation explains it."""
    return f"docs/reference/codes.md#{place}"


_PARAMETERS: Final = (Code.BAD_PARAMETERS,)
_NUMBER: Final = (Code.NUMBER_INVALID,)
_NOT_SENDABLE: Final = (Code.NOT_SENDABLE,)

ENTRIES: Final[Mapping[Place, Entry]] = {
    Reason.IP_LOCKED: Entry(
        (Code.IP_LOCKED,),
        Words(
            "This address may not use the token",
            "The token has a list of addresses, and the call came from another one.",
            "Add the address to the token's list, or call from one that is on it.",
        ),
        Words(
            "Địa chỉ này không được dùng token",
            "Token có danh sách địa chỉ IP được phép, và yêu cầu đến từ địa chỉ khác.",
            "Thêm địa chỉ vào danh sách của token, hoặc gọi từ một địa chỉ trong danh sách.",
        ),
    ),
    Reason.ACCOUNT_BLOCKED: Entry(
        (Code.ACCOUNT_BLOCKED,),
        Words(
            "The account is blocked",
            "An operator blocked it, or somebody pressed its freeze button.",
            "Ask the operator; nothing is sent until the account is open again.",
        ),
        Words(
            "Tài khoản bị khóa",
            "Người vận hành đã khóa, hoặc có người đã bấm nút đóng băng.",
            "Hỏi người vận hành; không tin nào được gửi cho đến khi mở lại.",
        ),
    ),
    Reason.API_NOT_ALLOWED: Entry(
        (Code.API_NOT_ALLOWED,),
        Words(
            "This call is not enabled",
            "API access is off for the account, or this release does not serve the endpoint yet.",
            "Ask the operator to enable API access for the account.",
        ),
        Words(
            "Chưa được phép gọi API này",
            "Tài khoản chưa bật API, hoặc phiên bản này chưa phục vụ chức năng đó.",
            "Nhờ người vận hành bật API cho tài khoản.",
        ),
    ),
    Reason.SCOPE_MISSING: Entry(
        (Code.API_NOT_ALLOWED,),
        Words(
            "The token lacks the scope",
            "Tokens are made for certain calls, and this call is not among them.",
            "Use another token, or make one with the scope.",
        ),
        Words(
            "Token không có quyền này",
            "Mỗi token chỉ dùng được cho một số chức năng, và không có chức năng này.",
            "Dùng token khác, hoặc tạo token có quyền đó.",
        ),
    ),
    Reason.BAD_JSON: Entry(
        _PARAMETERS,
        Words(
            "The body is not JSON",
            "Often an unescaped quote, a trailing comma, or a raw line break inside a string.",
            "Build the body with a JSON library, never by joining strings.",
        ),
        Words(
            "Nội dung gửi lên không phải JSON",
            "Thường do dấu nháy chưa thoát, dấu phẩy thừa, hoặc xuống dòng thô trong chuỗi.",
            "Dùng thư viện JSON để tạo nội dung, đừng ghép chuỗi.",
        ),
    ),
    Reason.JSON_LIMITS: Entry(
        _PARAMETERS,
        Words(
            "The body is too complex",
            "More than 32 levels, a number of more than 20 characters, or more than 1,000 pairs.",
            "Send only the documented parameters.",
        ),
        Words(
            "Nội dung gửi lên quá phức tạp",
            "Lồng hơn 32 mức, số dài hơn 20 ký tự, hoặc hơn 1.000 cặp tham số.",
            "Chỉ gửi các tham số có trong tài liệu.",
        ),
    ),
    Reason.DUPLICATE_PARAMETER: Entry(
        _PARAMETERS,
        Words(
            "A parameter stands twice",
            "Two values for one name: we do not guess which one is meant.",
            "Send each parameter once; several numbers go into one list.",
        ),
        Words(
            "Tham số bị lặp",
            "Một tên có hai giá trị: hệ thống không đoán giá trị nào đúng.",
            "Mỗi tham số chỉ gửi một lần; nhiều số điện thoại đặt trong một danh sách.",
        ),
    ),
    Reason.NOT_UTF8: Entry(
        (Code.NOT_SENDABLE, Code.BAD_PARAMETERS),
        Words(
            "The bytes are not UTF-8",
            "The text was coded in another character set, such as windows-1258 or UTF-16.",
            "Send UTF-8.",
        ),
        Words(
            "Dữ liệu không phải UTF-8",
            "Văn bản dùng bảng mã khác, ví dụ windows-1258 hoặc UTF-16.",
            "Gửi bằng UTF-8.",
        ),
    ),
    Reason.WRONG_TYPE: Entry(
        _PARAMETERS,
        Words(
            "A parameter has the wrong type",
            "For example content as a number: a code sent so has lost its leading zeros.",
            "Send texts and codes as strings.",
        ),
        Words(
            "Tham số sai kiểu",
            "Ví dụ content là số: mã gửi như vậy đã mất các số 0 ở đầu.",
            "Gửi văn bản và mã dưới dạng chuỗi.",
        ),
    ),
    Reason.MISSING_TO: Entry(
        _PARAMETERS,
        Words("No recipient", "`to` is absent or empty.", "Name at least one number in `to`."),
        Words("Thiếu người nhận", "Không có `to` hoặc `to` rỗng.", "Ghi ít nhất một số trong `to`."),
    ),
    Reason.MISSING_CONTENT: Entry(
        _PARAMETERS,
        Words("No text", "`content` is absent, empty or only white space.", "Send a text in `content`."),
        Words(
            "Thiếu nội dung", "Không có `content`, hoặc chỉ có khoảng trắng.", "Ghi nội dung vào `content`."
        ),
    ),
    Reason.TOO_MANY_RECIPIENTS: Entry(
        _PARAMETERS,
        Words(
            "More recipients than allowed",
            "A call takes 100 entries, and a verification or voice call exactly one.",
            "Split the list; nothing of this call was sent.",
        ),
        Words(
            "Quá nhiều người nhận",
            "Mỗi lần gọi nhận tối đa 100 số; mã xác thực và cuộc gọi thoại chỉ một số.",
            "Chia nhỏ danh sách; lần gọi này chưa gửi tin nào.",
        ),
    ),
    Reason.BAD_SMS_TYPE: Entry(
        _PARAMETERS,
        Words("Unknown sms_type", "It is a whole number from 1 to 8.", "Use 2 when in doubt."),
        Words("Sai sms_type", "Là số nguyên từ 1 đến 8.", "Dùng 2 nếu không chắc."),
    ),
    Reason.BAD_CONTENT: Entry(
        _PARAMETERS,
        Words(
            "This content does not fit the call",
            "A voice call reads 4 to 10 digits aloud, and nothing else.",
            "Send the digits only.",
        ),
        Words(
            "Nội dung không hợp với chức năng này",
            "Cuộc gọi thoại chỉ đọc từ 4 đến 10 chữ số.",
            "Chỉ gửi các chữ số.",
        ),
    ),
    Reason.BAD_LINK: Entry(
        _PARAMETERS,
        Words(
            "The link cannot be used",
            "It is an absolute http or https URL of at most 2,048 characters, without a user name.",
            "Correct `link`.",
        ),
        Words(
            "Liên kết không dùng được",
            "Phải là URL http hoặc https đầy đủ, tối đa 2.048 ký tự, không có tên người dùng.",
            "Sửa lại `link`.",
        ),
    ),
    Reason.BAD_OPTION: Entry(
        _PARAMETERS,
        Words(
            "An option is malformed",
            "`send_at`, `validity_s` or `reference` is outside of its form.",
            "See the table of options; leave out what you do not need.",
        ),
        Words(
            "Tùy chọn sai định dạng",
            "`send_at`, `validity_s` hoặc `reference` không đúng quy định.",
            "Xem bảng tùy chọn; bỏ những gì không cần.",
        ),
    ),
    Reason.BAD_APP_ID: Entry(
        _PARAMETERS,
        Words(
            "Unknown 2FA application",
            "`app_id` is missing, misspelt or belongs to another account.",
            "Copy it from the list of applications.",
        ),
        Words(
            "Không có ứng dụng 2FA này",
            "`app_id` thiếu, sai, hoặc thuộc tài khoản khác.",
            "Chép lại từ danh sách ứng dụng.",
        ),
    ),
    Reason.BAD_PIN: Entry(
        _PARAMETERS,
        Words("This is no PIN", "A PIN has 4 to 8 digits.", "Send what the person typed, as a string."),
        Words(
            "Không phải mã PIN",
            "Mã PIN có từ 4 đến 8 chữ số.",
            "Gửi đúng những gì người dùng nhập, dạng chuỗi.",
        ),
    ),
    Reason.UNKNOWN_TRANSACTION: Entry(
        _PARAMETERS,
        Words(
            "No such request",
            "The tranId is misspelt, older than the retention, or of another account.",
            "Use the tranId that the send answered.",
        ),
        Words(
            "Không có giao dịch này",
            "tranId sai, đã quá thời hạn lưu, hoặc thuộc tài khoản khác.",
            "Dùng tranId mà lần gửi đã trả về.",
        ),
    ),
    Reason.SENDER_NOT_FOUND: Entry(
        _PARAMETERS,
        Words(
            "Sender not found",
            "The type is not enabled for the account, or the sender is missing, misspelt or not approved.",
            "Use type 2, which needs no sender, or ask the operator to approve it. Repeating does not help.",
        ),
        Words(
            "Không tìm thấy người gửi",
            "Loại tin chưa được bật, hoặc thương hiệu thiếu, sai chính tả, hay chưa được duyệt.",
            "Dùng loại 2 (không cần người gửi), hoặc nhờ người vận hành duyệt. Gửi lại không có tác dụng.",
        ),
    ),
    Reason.AD_TYPE_REQUIRED: Entry(
        _PARAMETERS,
        Words(
            "Advertising must be type 1",
            "The text begins with [QC] or [AD], and the type is not 1.",
            "Send it as type 1 from an advertising brandname.",
        ),
        Words(
            "Tin quảng cáo phải là loại 1",
            "Nội dung bắt đầu bằng [QC] hoặc [AD] nhưng loại tin khác 1.",
            "Gửi bằng loại 1 với thương hiệu quảng cáo.",
        ),
    ),
    Reason.AD_LABEL_MISSING: Entry(
        _PARAMETERS,
        Words("The label is missing", "An advertisement begins with [QC] or [AD].", "Put [QC] in front."),
        Words("Thiếu nhãn quảng cáo", "Tin quảng cáo phải bắt đầu bằng [QC] hoặc [AD].", "Thêm [QC] ở đầu."),
    ),
    Reason.AD_OPTOUT_MISSING: Entry(
        _PARAMETERS,
        Words(
            "The way out is missing",
            "An advertisement ends with how to refuse more: TC, TU CHOI, HUY or STOP.",
            "Add it at the end.",
        ),
        Words(
            "Thiếu hướng dẫn từ chối",
            "Cuối tin quảng cáo phải có cách từ chối: TC, TU CHOI, HUY hoặc STOP.",
            "Thêm vào cuối tin.",
        ),
    ),
    Reason.NUMBER_INVALID: Entry(
        _NUMBER,
        Words(
            "No number can be used",
            "They are malformed, fixed lines, outside of the plan, or in a country that is not opened.",
            "Correct the numbers in invalidPhone; write them as 0912345678.",
        ),
        Words(
            "Không có số nào dùng được",
            "Sai định dạng, số cố định, ngoài quy hoạch, hoặc thuộc nước chưa được mở.",
            "Sửa các số trong invalidPhone; viết như 0912345678.",
        ),
    ),
    Reason.NUMBER_SUPPRESSED: Entry(
        _NUMBER,
        Words(
            "The recipients do not want this",
            "They opted out, are on the do-not-call list, or had three advertisements in 24 hours.",
            "Take them off your list.",
        ),
        Words(
            "Người nhận không muốn nhận",
            "Họ đã từ chối, nằm trong danh sách không quảng cáo, hoặc đã nhận ba tin trong 24 giờ.",
            "Bỏ họ khỏi danh sách.",
        ),
    ),
    Reason.NUMBER_BLOCKED: Entry(
        _NUMBER,
        Words(
            "The numbers are blocked",
            "An operator or the protection against fraud blocked them.",
            "Ask the operator.",
        ),
        Words("Số bị chặn", "Người vận hành hoặc hệ thống chống gian lận đã chặn.", "Hỏi người vận hành."),
    ),
    Reason.CODE_POINT: Entry(
        _NOT_SENDABLE,
        Words(
            "A character cannot be sent",
            "The text holds a control character or half a character.",
            "Remove it: it often comes from copying or from cutting a text in the middle of an emoji.",
        ),
        Words(
            "Có ký tự không gửi được",
            "Nội dung có ký tự điều khiển hoặc nửa ký tự.",
            "Xóa ký tự đó: thường do sao chép, hoặc cắt văn bản giữa một biểu tượng cảm xúc.",
        ),
    ),
    Reason.UNICODE_NOT_ALLOWED: Entry(
        _NOT_SENDABLE,
        Words(
            "The sender carries GSM-7 only",
            "The text holds a character outside of GSM-7, such as most accented Vietnamese letters.",
            "Remove the accents, or use a sender that carries Unicode.",
        ),
        Words(
            "Người gửi chỉ gửi được GSM-7",
            "Nội dung có ký tự ngoài GSM-7, ví dụ hầu hết chữ tiếng Việt có dấu.",
            "Bỏ dấu, hoặc dùng người gửi hỗ trợ Unicode.",
        ),
    ),
    Reason.TOO_LONG: Entry(
        (Code.TOO_LONG,),
        Words(
            "The text is too long",
            "It needs more parts than its type allows; one accented letter makes parts of 67 instead of 153.",
            "Shorten it, or remove the accents.",
        ),
        Words(
            "Nội dung quá dài",
            "Cần nhiều phần hơn loại tin cho phép; chỉ một chữ có dấu, mỗi phần còn 67 thay vì 153 ký tự.",
            "Rút ngắn, hoặc bỏ dấu.",
        ),
    ),
    Reason.BALANCE: Entry(
        (Code.BALANCE,),
        Words(
            "Not enough money",
            "The balance and the credit line do not cover the whole call.",
            "Top up. Nothing was sent; the same Idempotency-Key may be used again.",
        ),
        Words(
            "Không đủ tiền",
            "Số dư và hạn mức không đủ cho toàn bộ lần gửi.",
            "Nạp tiền. Chưa tin nào được gửi; có thể dùng lại Idempotency-Key.",
        ),
    ),
    Reason.SPEND_CAP: Entry(
        (Code.BALANCE,),
        Words(
            "The spending limit is reached",
            "The token's day or the account's minute has a limit, and this call would pass it.",
            "Wait, or have the limit raised. Look first at what was sent: it may be an abuse.",
        ),
        Words(
            "Đã đến giới hạn chi tiêu",
            "Token có giới hạn theo ngày, tài khoản theo phút, và lần gửi này sẽ vượt quá.",
            "Đợi, hoặc xin tăng giới hạn. Hãy xem lại những gì đã gửi: có thể bị lạm dụng.",
        ),
    ),
    Reason.INTERNAL: Entry(
        (Code.INTERNAL,),
        Words(
            "Something broke here",
            "The gateway could not do it; nothing was sent and nothing charged.",
            "Try again in a moment.",
        ),
        Words(
            "Lỗi phía hệ thống",
            "Hệ thống không thực hiện được; chưa gửi và chưa trừ tiền.",
            "Thử lại sau giây lát.",
        ),
    ),
    401: Entry(
        (),
        Words(
            "The token is not known",
            "It is missing, misspelt or revoked, or two different ones were sent.",
            "Send Basic with the token as the name and x as the password.",
        ),
        Words(
            "Token không hợp lệ",
            "Thiếu, sai, đã thu hồi, hoặc gửi hai token khác nhau.",
            "Gửi Basic với token là tên và x là mật khẩu.",
        ),
    ),
    404: Entry(
        (),
        Words("No such page", "The path is misspelt; capital letters count.", "See the table of endpoints."),
        Words("Không có trang này", "Sai đường dẫn; có phân biệt chữ hoa.", "Xem bảng các đường dẫn."),
    ),
    405: Entry(
        (),
        Words("Wrong method", "The endpoint takes other methods.", "Use one of those in `Allow`."),
        Words(
            "Sai phương thức", "Đường dẫn này dùng phương thức khác.", "Dùng một phương thức trong `Allow`."
        ),
    ),
    409: Entry(
        (),
        Words(
            "The first call still runs",
            "Another call with this Idempotency-Key is under way.",
            "Wait a second.",
        ),
        Words("Lần gọi trước chưa xong", "Một lần gọi cùng Idempotency-Key đang chạy.", "Đợi một giây."),
    ),
    413: Entry(
        (),
        Words("The body is too large", "It has more than 1 MiB.", "Split the call."),
        Words("Nội dung quá lớn", "Hơn 1 MiB.", "Chia nhỏ lần gọi."),
    ),
    415: Entry(
        (),
        Words("The body is compressed", "Content-Encoding is not supported.", "Send it as it is."),
        Words("Nội dung bị nén", "Không hỗ trợ Content-Encoding.", "Gửi không nén."),
    ),
    422: Entry(
        (),
        Words(
            "The key belongs to another call",
            "This Idempotency-Key came with another body.",
            "Use a fresh key.",
        ),
        Words("Khóa đã dùng cho lần gọi khác", "Idempotency-Key này đi với nội dung khác.", "Dùng khóa mới."),
    ),
    429: Entry(
        (),
        Words(
            "Too many requests",
            "The account's limit, or that of wrong tokens, is reached, or the gateway is full.",
            "Wait as long as `Retry-After` says.",
        ),
        Words(
            "Quá nhiều yêu cầu",
            "Đã đến giới hạn của tài khoản, của token sai, hoặc hệ thống đang đầy.",
            "Đợi theo `Retry-After`.",
        ),
    ),
    500: Entry(
        (),
        Words(
            "The outcome is unknown",
            "The database was lost while the request was being stored.",
            "Repeat with the same Idempotency-Key: you are not charged twice.",
        ),
        Words(
            "Chưa rõ kết quả",
            "Mất kết nối cơ sở dữ liệu đúng lúc đang lưu yêu cầu.",
            "Gọi lại với cùng Idempotency-Key: bạn không bị trừ tiền hai lần.",
        ),
    ),
}
